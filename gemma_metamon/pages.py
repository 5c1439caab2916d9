"""Web pages made of templates: the one set of rules that all of them follow. Needs Jinja, of the extra `report`."""

from collections.abc import Callable
from typing import Any

import jinja2


def load_templates(package: str, **filters: Callable[..., Any]) -> jinja2.Environment:
    """The templates in a package's folder `templates`, and the filters that they use.

    What a template shows is escaped, unless it is Markup; a name that it is not given is an error, and no empty text.
    """
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    templates.filters |= filters
    return templates

"""The configuration of a run: a model config, a training config and overrides, read into gin and checked."""

import pprint
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from gemma_metamon.configs.files import find_config, include_folders
from gemma_metamon.configs.names import EXPERIMENT, bases_of, bindings_of, followed, registered
from gemma_metamon.configs.statements import Reader, Source
from gemma_metamon.errors import ConfigError
from gemma_metamon.runs.embedded import AGENTS, register
from gemma_metamon.runs.experiment import MADE_BY_NAME
from gemma_metamon.runs.void_settings import ENCODER, why_void
from gemma_metamon.strict_json import shown


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig:
    """What gin holds after the files and the overrides.

    Attributes:
        text: all bindings as a .gin text that loads again, sorted by name; references by name.
        bindings: "Name.parameter" -> value as gin would print it, what a macro stands for in its place.
        unused: override that would change nothing -> why, and what to do.
    """

    text: str
    bindings: dict[str, str]
    unused: dict[str, str]

    def require_used(self) -> None:
        """Raises ConfigError for an override that would change nothing."""
        for override, why in self.unused.items():
            raise ConfigError(f"--gin_override {override} would change nothing: {why}")


def load(
    model_gin_config: str,
    train_gin_config: str | None = None,
    overrides: Sequence[str] = (),
    trusted: Sequence[str] = (),
) -> ResolvedConfig:
    """Fills gin from a model config, a training config and overrides, in that order, and checks every value's type.

    Modules of `trusted` may be imported by the files, and are run; none is by default.

    Raises MissingFileError for an unknown config; ConfigError for an unknown name or parameter, a value of the wrong
    type, a syntax error, or an import that a .gin file may not make.
    """
    files = [find_config(model_gin_config, "models")]
    if train_gin_config is not None:
        files.append(find_config(train_gin_config, "training"))
    reader = _begin(trusted)
    for file in files:
        reader.read_file(file)
    return _finish(reader, overrides)


def load_text(text: str, overrides: Sequence[str] = ()) -> ResolvedConfig:
    """The same for a resolved configuration that a run saved; nothing that it imports but the plugin is run.

    The run's weights hold the adapter that it began with, whose folder may be gone.

    Raises ConfigError as `load` does.
    """
    reader = _begin()
    reader.read_text(text, Source("saved", "the configuration that was saved with the run"))
    forget_init_adapter()
    return _finish(reader, overrides)


def forget_init_adapter() -> bool:
    """For an agent that gets saved weights: unbinds GemmaTstepEncoder.init_adapter, and says whether it was bound."""
    import gin

    if bindings_of(ENCODER).get("init_adapter") is None:
        return False
    gin.bind_parameter(f"{registered[ENCODER][0]}.init_adapter", None)
    return True


def _begin(trusted: Sequence[str] = ()) -> Reader:
    import gin

    register()
    gin.clear_config()
    return Reader(registered, include_folders("experiment"), trusted)


def _finish(reader: Reader, overrides: Sequence[str]) -> ResolvedConfig:
    import gin

    for override in overrides:
        reader.read_text(override, Source("override", shown(override)))
    reader.check()
    bindings = {
        # sorted as in gin's own text, so that a text and what it loads to have the same bindings
        f"{name}.{parameter}": pprint.pformat(followed(value), width=sys.maxsize)
        for name, (selector, _) in sorted(registered.items())
        for parameter, value in sorted(gin.get_bindings(selector, resolve_references=False).items())
    }
    used = _used_names(reader)
    unused = {}
    for override, (name, parameter) in reader.overridden.items():
        if name not in used:
            unused[override] = (
                f"these configs make no {name}; leave it out, or choose configs in which something is @{name}"
            )
        elif (why := why_void(name, parameter)) is not None:
            unused[override] = why
    return ResolvedConfig(text=gin.config_str(), bindings=bindings, unused=unused)


def _used_names(reader: Reader) -> set[str]:
    """What an experiment is made of, with what it makes by name, and what the parts that are agents extend."""
    used = {EXPERIMENT, *MADE_BY_NAME, *reader.parts_of(EXPERIMENT)}
    bases = {base for name in used for base in bases_of(registered[name][1]) if registered[name][1] in AGENTS}
    return used.union(bases, *(reader.parts_of(base) for base in bases))

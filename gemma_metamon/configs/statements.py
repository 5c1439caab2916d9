"""A .gin text read with gin's grammar, by our own rules of what it may import and include.

gin itself runs `import x` of whatever lies in the current folder, imports the packages that an `include` path names,
and with `from __gin__ import dynamic_registration` lets a text call any function it can reach. Here a text binds
values, and nothing else happens: SECURITY.md says what each kind of text may do.
"""

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gemma_metamon.configs.types import Macros, fits, hints_of, references_in, require_plain, type_name
from gemma_metamon.errors import ConfigError, MissingFileError
from gemma_metamon.strict_json import shown

PLUGIN: Final = "gemma_metamon.upstream.plugin"
MOST_CHARACTERS: Final = 100_000
MOST_FILES: Final = 100
_UPSTREAM: Final = ("amago", "metamon")
_LOCATION: Final = re.compile(r"\n  In .*? line (\d+)\n.*", re.DOTALL)

Kind = Literal["file", "saved", "override"]


@dataclass(frozen=True)
class Source:
    """Where a text comes from, which decides what it may do.

    Attributes:
        kind: "file", of the user's own: may include files and import gemma_metamon; "saved" with a run, perhaps a
            stranger's: may import the plugin alone; "override": neither.
        name: how errors call it.
    """

    kind: Kind
    name: str


def require_saved_imports(text: str, name: str) -> None:
    """Raise ConfigError where a configuration that was saved with a run would import or include anything else.

    For a metamon process, where gin reads the text itself.
    """
    from gin import config_parser

    class Nothing(config_parser.ParserDelegate):  # type: ignore[misc]  # gin publishes no types
        def configurable_reference(self, *_: Any) -> None: ...
        def macro(self, *_: Any) -> None: ...

    source = Source("saved", name)
    for statement in _statements(text, source, Nothing()):
        if isinstance(statement, config_parser.ImportStatement):
            _check_import(statement, source)
        elif isinstance(statement, config_parser.IncludeStatement):
            raise _no_includes(source)


class Reader:
    """Fills gin from texts, in order, and then checks all that was bound.

    Args:
        registered: gin name -> (selector, class or function).
        folders: where `include` looks after the current folder.
        trusted: modules, and packages with all that is in them, that a file of the user's own may import as well. They
            are run; what they give to `names.register` can be bound.
    """

    def __init__(
        self,
        registered: Mapping[str, tuple[str, Callable[..., Any]]],
        folders: Sequence[Path],
        trusted: Sequence[str] = (),
    ) -> None:
        self._registered = registered
        self._look_up()
        self._folders, self._trusted = folders, trusted
        self._bound: dict[tuple[str, str, str], Any] = {}
        self._macros_of_overrides: dict[str, str] = {}
        self._made_of: dict[str, set[str]] = {}
        self.overridden: dict[str, tuple[str, str]] = {}
        """Override, as errors call it -> the gin name that it sets a parameter of, and the parameter."""
        self._n_files = 0

    def _look_up(self) -> None:
        self._names = {selector: name for name, (selector, _) in self._registered.items()}
        self._targets = dict(self._registered.values())

    def read_file(self, path: Path, including: tuple[Path, ...] = ()) -> None:
        """Raises ConfigError for what is no gin text, or does what it may not; MissingFileError for its includes."""
        self._n_files += 1
        if path.resolve() in including:
            raise ConfigError(f"{path} includes itself; delete one of the include lines between")
        if self._n_files > MOST_FILES:
            raise ConfigError(
                f"{path} is the {MOST_FILES + 1}st file of one configuration; at most {MOST_FILES} are read"
            )
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(MOST_CHARACTERS + 1)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{shown(str(path))} cannot be read as a .gin file ({_reason(error)})") from error
        self.read_text(text, Source("file", str(path)), (*including, path.resolve()))

    def read_text(self, text: str, source: Source, including: tuple[Path, ...] = ()) -> None:
        """Raises ConfigError for what is no gin text, or does what its kind of text may not."""
        import gin
        from gin import config_parser

        for statement in _statements(text, source, gin.config.ParserDelegate()):
            if isinstance(statement, config_parser.ImportStatement):
                if source.kind == "file" and _is_within(str(statement.module), self._trusted):
                    _run_trusted(str(statement.module), source)
                    self._look_up()
                    continue
                _check_import(statement, source, self._folders)
                if statement.module == PLUGIN:
                    gin.parse_config(f"import {PLUGIN}")  # so that the resolved text has it, for a metamon process
            elif isinstance(statement, config_parser.IncludeStatement):
                if source.kind != "file":
                    raise _no_includes(source)
                self.read_file(self._find(statement.filename, source), including)
            elif isinstance(statement, config_parser.BindingStatement):
                with _quoted(text, source, statement.location.line_num):
                    self._bind(statement, source)

    def check(self) -> None:
        """Raises ConfigError for a macro that leads nowhere, a value of another type, or parts made of themselves."""
        macros = Macros(
            {scope: value for (scope, selector, _), value in self._bound.items() if selector == "gin.macro"}
        )
        for (scope, selector, parameter), value in self._bound.items():
            resolved = macros.resolve(value)
            if selector == "gin.macro":
                continue
            name = f"{f'{scope}/' if scope else ''}{self._names[selector]}.{parameter}"
            binding = f"{name} = {shown(resolved, none='None')}"
            for reference in references_in(resolved):
                self._check_reference(reference, binding)
                self._made_of.setdefault(selector, set()).add(reference.config_key[1])
            hint = hints_of(self._targets[selector]).get(parameter, Any)
            if not fits(resolved, hint):
                raise ConfigError(f"{binding} is not of its type; expected {self._expected(hint)}")
        self._refuse_loops()
        for name, override in self._macros_of_overrides.items():
            if name not in macros.followed:
                raise ConfigError(
                    f"{override} sets a macro that nothing uses; to set a parameter, name what it belongs to: "
                    f"Name.{name} = VALUE"
                )

    def _bind(self, statement: Any, source: Source) -> None:
        import gin

        scope, selector, parameter, value, _ = statement
        require_plain(value)
        if not parameter:
            macro = f"{scope}/{selector}" if scope else selector
            key = (macro, "gin.macro", "value")
            if source.kind == "override":
                self._macros_of_overrides[macro] = source.name
        else:
            try:
                key = gin.config.ParsedBindingKey.parse((scope, selector, parameter)).scope_selector_arg
            except ValueError as error:
                raise ValueError(f"{str(error).rstrip('.')}{self._meant(selector, parameter)}") from error
            if key[1] not in self._targets:
                raise ValueError(f"No configurable matching {selector!r}")
            self._check_parameter(key[1], parameter)
            if source.kind == "override":
                self.overridden[source.name] = (self._names[key[1]], parameter)
        gin.bind_parameter(key, value)
        self._bound[key] = value

    def _meant(self, selector: str, parameter: str) -> str:
        """The nearest name to one that is not known, for the end of an error; empty where none is near."""
        target = self._registered.get(selector.rpartition(".")[2])
        if target is None:
            near = difflib.get_close_matches(selector, list(self._registered), n=1)
        else:
            near = difflib.get_close_matches(parameter, list(inspect.signature(target[1]).parameters), n=1)
        return f"; did you mean {near[0]}?" if near else ""

    def _check_parameter(self, selector: str, parameter: str) -> None:
        found = inspect.signature(self._targets[selector]).parameters.get(parameter)
        if found is None or found.kind is inspect.Parameter.VAR_KEYWORD:
            raise ValueError(f"Configurable {self._names[selector]!r} doesn't have a parameter named {parameter!r}")
        if found.default is inspect.Parameter.empty:
            raise ValueError(f"{self._names[selector]} gets its {parameter} from what it is built for, not from gin")

    def _check_reference(self, reference: Any, binding: str) -> None:
        selector = reference.config_key[1]
        if selector not in self._targets:
            raise ConfigError(f"{binding}: there is no such thing as {shown(reference)} here")
        parameters = inspect.signature(self._targets[selector]).parameters.values()
        if reference.evaluate and any(parameter.default is inspect.Parameter.empty for parameter in parameters):
            raise ConfigError(
                f"{binding}: {reference} would be made before what it is for is there; write it without ()"
            )

    def _expected(self, hint: Any) -> str:
        import gin

        fitting = [
            f"@{name}{'()' if made else ''}"
            for selector, name in self._names.items()
            for made in ((False, True) if inspect.isclass(self._targets[selector]) else (False,))
            if fits(gin.config.ConfigurableReference(selector, made), hint)
        ]
        return " or ".join(fitting) or type_name(hint)

    def parts_of(self, name: str) -> set[str]:
        """The gin names that are bound to a parameter of this one, or of one of those, and so on; after `check`."""
        (selector,) = (selector for selector, own in self._names.items() if own == name)
        return {self._names[part] for part in self._reached(selector)}

    def _reached(self, first: str) -> set[str]:
        reached, ahead = set[str](), [first]
        while ahead:
            new = self._made_of.get(ahead.pop(), set()) - reached
            reached |= new
            ahead.extend(new)
        return reached

    def _refuse_loops(self) -> None:
        for first, parts in self._made_of.items():
            if first in self._reached(first):
                raise ConfigError(
                    f"{self._names[first]} is to be built of itself "
                    f"({', '.join(sorted(f'@{self._names[name]}' for name in parts))})"
                )

    def _find(self, filename: str, source: Source) -> Path:
        for folder in (Path(), *self._folders):
            path = folder / filename
            if is_file(path):
                return path
        raise MissingFileError(f"{source.name} includes {shown(filename)}, and there is no such file")


def is_file(path: Path) -> bool:
    """Whether there is such a file; also for a path that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _quoted(text: str, source: Source, line: int) -> Iterator[None]:
    """Makes whatever is raised inside a ConfigError that quotes the line."""
    try:
        yield
    except Exception as error:  # gin's lookup of names raises nearly anything
        raise _unreadable(error, text, source, line) from error


def _statements(text: str, source: Source, delegate: Any) -> Iterator[Any]:
    """Gin's statements. Raises ConfigError quoting the line that is none."""
    from gin import config_parser

    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"{source.name} is longer than the {MOST_CHARACTERS:,} characters of a .gin text")
    try:
        parser = config_parser.ConfigParser(text, delegate)
        while True:
            statement = parser.parse_statement()
            if statement is None:
                return
            yield statement
    except Exception as error:  # gin's parser lets through whatever Python's tokenizer and literals raise
        raise _unreadable(error, text, source) from error


def _unreadable(error: Exception, text: str, source: Source, line: int | None = None) -> ConfigError:
    located = _LOCATION.search(str(error))
    if isinstance(error, SyntaxError):
        line = error.lineno
    elif isinstance(error, tokenize.TokenError):
        line = error.args[1][0]
    elif located is not None:
        line = int(located[1])
    lines = text.split("\n")
    place = source.name
    if source.kind != "override" and line is not None and 0 < line <= len(lines):
        place += f", line {line} ({shown(lines[line - 1].strip())})"
    return ConfigError(f"gin cannot read {place}: {_reason(error)}")


def _reason(error: Exception) -> str:
    if isinstance(error, (RecursionError, MemoryError)):
        return "it is nested too deeply"
    if isinstance(error, SyntaxError):
        said = str(error.msg)
    elif isinstance(error, tokenize.TokenError):
        said = str(error.args[0])
    else:
        said = _LOCATION.sub("", str(error))
    said = said[max(said.find("Failed to parse token"), 0) :]  # before it Python names a node of its own
    said = " ".join(said.split())[:300]
    return said.rstrip(".") or type(error).__name__


def _check_import(statement: Any, source: Source, folders: Sequence[Path] = ()) -> None:
    module, written = str(statement.module), statement.format()
    root = module.partition(".")[0]
    if source.kind == "override":
        raise ConfigError(f"{source.name} imports; an override sets values and can import nothing")
    if source.kind == "saved":
        if module != PLUGIN:
            raise ConfigError(
                f"{source.name} would run {shown(written)}; what is saved with a run may import {PLUGIN} alone, "
                "so nothing of it was loaded (see SECURITY.md)"
            )
    elif root in _UPSTREAM:
        packaged = sorted(path.name for folder in folders for path in folder.glob("*.gin"))
        name = Path(source.name).name
        ours = name if name in packaged else (difflib.get_close_matches(name, packaged, n=1) or packaged)[0]
        raise ConfigError(
            f"{source.name} is an upstream config ({written!r}), and this runtime has no {root}; "
            f"use the packaged {ours}, or delete its import lines"
        )
    elif root != "gemma_metamon":
        raise ConfigError(
            f"{source.name} would run {shown(written)}; a .gin file may import gemma_metamon, amago and metamon alone; "
            f"delete the line, or trust that code by --trust_config {root} (see SECURITY.md)"
        )
    elif not _is_module(module):
        raise ConfigError(f"{source.name} imports {module}, which this version of gemma_metamon does not have")


def _is_within(module: str, trusted: Sequence[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in trusted)


def _run_trusted(module: str, source: Source) -> None:
    """Imports a module that the user vouches for. Raises ConfigError, with what it raised, where that fails."""
    try:
        importlib.import_module(module)
    except Exception as error:  # it is somebody's code, and may raise anything
        raise ConfigError(
            f"{source.name} imports {module}, which --trust_config trusts, and that fails "
            f"({type(error).__name__}: {_reason(error)})"
        ) from error


def _is_module(name: str) -> bool:
    """Whether the package has this module; it is not imported, only the packages that it lies in."""
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # of a package that is none
        return False


def _no_includes(source: Source) -> ConfigError:
    return ConfigError(f"{source.name} includes a file; only a .gin file of your own can")

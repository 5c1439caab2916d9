"""Which versions of metamon, amago and poke-env go together and with this package: the one table of them.

Nothing of theirs is imported here: what is installed is read off its files, so that this works where it does not start.
"""

import importlib.metadata
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gemma_metamon.errors import MissingDependencyError

ALLOW_ANY_POKE_ENV: Final = "METAMON_ALLOW_ANY_POKE_ENV"
CACHE_DIR: Final = "METAMON_CACHE_DIR"
REPOSITORIES: Final = "https://github.com/UT-Austin-RPL"
"""Of all three; none of them is on PyPI, where `metamon` is another package and `poke-env` the original of the fork."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A version of metamon and what goes with it.

    Attributes:
        metamon: its version.
        commit: of UT-Austin-RPL/metamon.
        amago: the first version that it trains with.
        last_amago: the last one; None where later ones go, too.
        amago_checkout: a tag or commit of UT-Austin-RPL/amago.
        poke_env: the version that it asks for; it starts with no other.
        poke_env_checkout: a commit of UT-Austin-RPL/poke-env.
        tried: the amagos that this package has run it with; an amago's own name for its version, as it was run.
        tried_as: how, where that takes more than a version.
        dataset_file: its train script takes `--dataset_config FILE.yaml`, and no folders and formats.
        launchers: of its evaluation, which let models play each other: `--eval_type` of `metamon-evaluate`.
        knows_fight: its battles know the "Fight" button that Showdown has in gen 1 since 2026.
    """

    metamon: str
    commit: str
    amago: str
    last_amago: str | None
    amago_checkout: str
    poke_env: str
    poke_env_checkout: str
    tried: tuple[str, ...]
    tried_as: str
    dataset_file: bool = False
    launchers: tuple[str, ...] = ()
    knows_fight: bool = False

    def takes(self, amago: str) -> bool:
        """Whether this metamon trains with that version of amago."""
        found = _numbers(amago)
        return _numbers(self.amago) <= found and (self.last_amago is None or found <= _numbers(self.last_amago))

    @property
    def amago_words(self) -> str:
        """Which versions of amago fit, as a sentence names them."""
        if self.last_amago is None:
            return f"amago {self.amago} or later"
        return f"amago {self.amago}" if self.amago == self.last_amago else f"amago {self.amago} or {self.last_amago}"

    @property
    def amago_install(self) -> str:
        """The command that installs the amago of this tree."""
        return f'pip install "amago @ git+{REPOSITORIES}/amago.git@{self.amago_checkout}"'

    @property
    def poke_env_install(self) -> str:
        """The command that installs metamon's fork of poke-env."""
        return f'pip install "poke-env @ git+{REPOSITORIES}/poke-env.git@{self.poke_env_checkout}"'

    def install_commands(self) -> list[str]:
        """From nothing, in an environment of their own; this package comes after them."""
        return [
            f"git clone {REPOSITORIES}/metamon.git && git -C metamon checkout {self.commit}",
            "pip install -e ./metamon",
            self.amago_install,
            self.poke_env_install,
        ]

    def train_commands(self) -> list[str]:
        """The flagship's; --eval_gens without a number trains without playing, which metamon-evaluate does."""
        data = "--formats gen9ou --parsed_replay_dir ~/metamon_data/parsed-replays"
        first = [f"gemma-metamon configs dataset {data} > gen9ou.yaml"] if self.dataset_file else []
        given = '--dataset_config "$PWD/gen9ou.yaml"' if self.dataset_file else data
        return [
            *first,
            "python -m metamon.rl.train --run_name gemma_synthetic_gen9ou_v1 "
            "--model_gin_config gemma_synthetic_multitaskagent.gin --train_gin_config binary_rl.gin "
            f"--save_dir ~/metamon_checkpoints {given} --batch_size_per_gpu 2 --grad_accum 4 --epochs 40 "
            "--eval_gens --log",
        ]


TREES: Final = (
    Tree(
        metamon="1.6.0",
        commit="0a00a759",
        amago="3.4.0",
        last_amago=None,
        amago_checkout="v3.4.0",
        poke_env="0.8.3.3",
        poke_env_checkout="e1268d2",
        tried=(),
        tried_as="amago 3.3.0 (48eea05) that was made to call itself 3.4.0; with 3.4.0 itself it was not tried",
        dataset_file=True,
        launchers=("h2h", "sweep", "ladder_self_play"),
        knows_fight=True,
    ),
    Tree(
        metamon="1.5.1",
        commit="d429ad6a",
        amago="3.1.2",
        last_amago="3.1.2",
        amago_checkout="1e3bfed",
        poke_env="0.8.3.2",
        poke_env_checkout="3b11ebf",
        tried=("3.1.2",),
        tried_as="amago 3.1.2 (1e3bfed)",
        launchers=("ladder_self_play",),
    ),
    Tree(
        metamon="1.4.0",
        commit="e0b98978",
        amago="3.1.1",
        last_amago="3.1.2",
        amago_checkout="1e3bfed",
        poke_env="0.8.3.2",
        poke_env_checkout="3b11ebf",
        tried=("3.1.1", "3.1.2"),
        tried_as="amago 3.1.1 (b8450e2) and 3.1.2 (1e3bfed)",
    ),
)
"""The newest first."""

OLDER_SHOWDOWN: Final = (
    "git -C metamon submodule update --init && cd metamon/server/pokemon-showdown && npm install && "
    "node pokemon-showdown start --no-security"
)
"""The simulator that the clone of an older metamon names (5e614659, June 2025), without gen 1's Fight button.

npm has none that fits: 0.11.10 sends a request before what happened, which their poke-env does not read, and 0.11.11
has the button.
"""

INSTALL: Final = "; ".join(TREES[0].install_commands())
"""The newest one, in one line."""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A package as it is found here, not imported.

    Attributes:
        version: what it calls itself in its `__init__.py`, else what it was installed as; "" where neither says.
        installed_as: what it was installed as; "" where it was not installed but only lies on the path.
        folder: of the package; None where there is no such package.
        is_clone: what is found under the name is the folder of its clone, which holds the package.
    """

    name: str
    version: str = ""
    installed_as: str = ""
    folder: Path | None = None
    is_clone: bool = False

    def __str__(self) -> str:
        if not self.version:
            return self.name
        other = self.installed_as not in ("", self.version)
        return f"{self.name} {self.version}" + (f" (installed as {self.installed_as})" if other else "")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a pair goes together: `untried` is a pair that nothing speaks against. `mend` says what to install."""

    fits: Literal["yes", "untried", "no"]
    reason: str
    mend: str = ""


def find_tree(metamon: str) -> Tree | None:
    """The row of a version of metamon."""
    return next((tree for tree in TREES if tree.metamon == metamon), None)


def find_installed(name: str, distribution: str | None = None) -> Installed:
    """The package of that name that an import finds, by its files; what is imported already says its version."""
    known_as = distribution or name
    try:
        installed_as = importlib.metadata.version(known_as)
    except importlib.metadata.PackageNotFoundError:
        installed_as = ""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module without a spec
        spec = None
    if spec is None:
        return Installed(name=known_as, installed_as=installed_as)
    version = getattr(sys.modules.get(name), "__version__", "")
    if spec.origin is None:  # a folder without __init__.py
        found = [Path(location) for location in spec.submodule_search_locations or ()]
        folder = found[0] if found else Path(name)
        clone = is_clone(folder, name)
        version = version or (_own_version(folder / name / "__init__.py") if clone else "")
        return Installed(name=known_as, version=version, installed_as=installed_as, folder=folder, is_clone=clone)
    source = Path(spec.origin)
    version = version or _own_version(source) or installed_as
    return Installed(name=known_as, version=version, installed_as=installed_as, folder=source.parent)


def explain_missing(module: str) -> MissingDependencyError:
    """The error for a module of upstream's that cannot be imported: nothing there, another package, or a clone.

    Python finds the folder of a clone in the folder that it lies in.
    """
    package = find_installed(module.split(".")[0])
    if package.folder is None:
        return MissingDependencyError(f"{package.name} is not installed here; install it from its clone: {INSTALL}")
    if package.is_clone:
        return MissingDependencyError(
            f"{package.folder} is the clone of {package.name} and stands before the package in it, because Python "
            f"looks into the folder that a command is run from: run it from another one (cd {package.folder})"
        )
    return MissingDependencyError(
        f"the package {package.name} at {package.folder} has no {module}, so it is not UT-Austin-RPL's; "
        f"uninstall it and install: {INSTALL}"
    )


def is_clone(folder: Path, name: str) -> bool:
    """Whether a folder is a clone's, with the package of that name in it: Python takes it for the package itself."""
    return not (folder / "__init__.py").exists() and (folder / name / "__init__.py").is_file()


def judge(metamon: str, amago: str) -> Verdict:
    """Whether these versions go together, by the table."""
    tree = find_tree(metamon)
    pair = f"amago {amago} and metamon {metamon}"
    if tree is None:
        return Verdict(
            fits="untried", reason=f"gemma_metamon has not been tried with {pair}; what was tried: {tried_words()}"
        )
    if not tree.takes(amago):
        return Verdict(
            fits="no",
            reason=f"{pair} do not fit: metamon {metamon} wants {tree.amago_words}",
            mend=tree.amago_install,
        )
    if amago not in tree.tried:
        return Verdict(fits="untried", reason=f"{pair} should fit; tried was {tree.tried_as}")
    return Verdict(fits="yes", reason=f"{pair} fit")


def judge_poke_env(metamon: str, poke_env: str) -> Verdict:
    """Whether metamon starts with this poke-env, in the environment of this process."""
    tree = find_tree(metamon)
    if tree is None:
        return Verdict(fits="untried", reason=f"which poke-env metamon {metamon} wants is not known here")
    if poke_env == tree.poke_env:
        return Verdict(fits="yes", reason=f"poke-env {poke_env} is the one that metamon {metamon} wants")
    reason = f"metamon {metamon} wants poke-env {tree.poke_env}"
    if os.environ.get(ALLOW_ANY_POKE_ENV):
        return Verdict(fits="untried", reason=f"{reason}; {ALLOW_ANY_POKE_ENV} lets it start with {poke_env or 'none'}")
    mend = tree.poke_env_install
    if poke_env.startswith("0.8.3"):  # another of the fork's
        mend += f"; or export {ALLOW_ANY_POKE_ENV}=1"
    return Verdict(fits="no", reason=f"{reason} and starts with no other", mend=mend)


def tried_words() -> str:
    """What this package has been run with, in words."""
    return "; ".join(f"metamon {tree.metamon} on {tree.tried_as}" for tree in TREES)


def _own_version(source: Path) -> str:
    """The last `__version__ = "..."` of a file; "" where it has none, or computes it."""
    try:
        found = re.findall(r"""^__version__ = ["']([^"']+)["']""", source.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return ""
    return str(found[-1]) if found else ""


def _numbers(version: str) -> tuple[int, ...]:
    """3.10.1 comes after 3.9: as numbers, not as text."""
    return tuple(int(number) for number in re.findall(r"\d+", version))

"""What the base install goes without is asked for in one sentence, by the command that needs it, before anything."""

import re
import subprocess
import sys

import pytest
from support.paths import ROOT

from gemma_metamon.commands import main
from gemma_metamon.commands._players import find_players
from gemma_metamon.errors import MissingDependencyError
from gemma_metamon.extras import EXTRAS, FROM_PYTHON_3_11, is_installed
from gemma_metamon.training.tracking import require_wandb

PYPROJECT = ROOT / "pyproject.toml"
PUBLISHED_AS = {"PIL": "pillow", "openenv": "openenv-core"}
IMPROVE = ["--out", "x", "--format", "gen1ou", "--rounds", "1", "--battles_per_round", "1", "--steps_per_round", "1"]


@pytest.mark.parametrize(
    ("package", "extra", "command"),
    [
        ("poke_env", "battle", ["evaluate", "--players", "RandomPlayer"]),
        (
            "poke_env",
            "battle",
            ["collect", "--players=RandomPlayer", "--format=gen1ou", "--battles=1", "--out=x"],
        ),
        ("poke_env", "battle", ["improve", "--run_dir", "nowhere", *IMPROVE]),
        ("choix", "report", ["improve", "--run_dir", "nowhere", *IMPROVE]),
        ("choix", "report", ["evaluate", "--players", "RandomPlayer", "TypeTrainer", "--round_robin"]),
        ("matplotlib", "report", ["evaluate", "--players", "RandomPlayer", "--out", "x"]),
        ("jinja2", "report", ["explain", "nowhere", "--run_dir", "nowhere"]),
        ("jinja2", "report", ["report", "nowhere"]),
        ("optuna", "sweep", ["sweep", "x.sweep", "--out", "x"]),
        ("PIL", "vision", ["scenes", "nowhere", "--out", "x"]),
        ("PIL", "vision", ["vlm", "train", "--data", "x", "--out", "y"]),
        ("trl", "language", ["vlm", "train", "--data", "x", "--out", "y"]),
        ("PIL", "vision", ["vlm", "merge", "--run", "x", "--out", "y"]),
        ("PIL", "vision", ["evaluate", "--players", "vlm:x"]),
        ("PIL", "vision", ["vlm", "export", "--parsed_replay_dir", "nowhere", "--out", "x"]),
        ("poke_env", "battle", ["chat", "export", "--parsed_replay_dir", "nowhere", "--out", "x.jsonl"]),
        ("poke_env", "battle", ["ladder", "--username", "Anna", "--player", "RandomPlayer"]),
        ("jinja2", "report", ["ladder", "--username", "Anna", "--player", "RandomPlayer"]),
        ("openai", "language", ["evaluate", "--players", "chat:m@http://127.0.0.1:9/v1"]),
        ("trl", "language", ["sft", "--data", "x", "--out", "y"]),
        ("openenv", "openenv", ["openenv"]),
        (
            "google.genai",
            "vertex",
            ["chat", "submit", "--to=vertex", "--data=x", "--project=p", "--bucket=b", "--model=m"],
        ),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    package: str, extra: str, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("gemma_metamon.extras.PYTHON", (3, 11))
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    assert main(command) == 1
    said = capsys.readouterr().err.strip()
    assert said.endswith(f" needs {package}; pip install 'gemma-metamon[{extra}]'")
    assert "\n" not in said


def test_what_helps_without_the_package_is_said_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependencyError, match=r"^--log needs wandb; pip install .*, or train without --log$"):
        require_wandb()


def test_a_package_within_one_that_is_missing_is_missing() -> None:
    assert is_installed("importlib.util")
    assert not is_installed("importlib.nothing")
    assert not is_installed("no_such_package.part")


def test_what_python_3_10_cannot_have_is_not_told_to_be_installed_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("gemma_metamon.extras.PYTHON", (3, 10))
    monkeypatch.setitem(sys.modules, "trl", None)
    assert main(["sft", "--data", "x", "--out", "y"]) == 1
    said = capsys.readouterr().err.strip()
    assert said.endswith(" needs trl, and the extra language Python 3.11 or newer")


def test_a_chat_player_needs_nothing_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    (found,) = find_players(["chat:m@http://127.0.0.1:9/v1"])
    assert found.chat is not None


@pytest.mark.parametrize(("package", "extra"), [("gymnasium", "envs"), ("pettingzoo", "envs"), ("poke_env", "battle")])
def test_the_environments_name_what_is_missing(package: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from gemma_metamon.errors import MissingDependencyError\n"
        "try: import gemma_metamon.envs\n"
        "except MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"gemma_metamon.envs needs {package}; pip install 'gemma-metamon[{extra}]'\n"


def test_extras_are_those_of_the_package() -> None:
    text = PYPROJECT.read_text(encoding="utf-8")
    for extra, packages in EXTRAS.items():
        (declared,) = re.findall(rf"^{extra} = \[(.*)\]", text, re.MULTILINE)
        assert all(f'"{PUBLISHED_AS.get(package, re.sub("[._]", "-", package))}>=' in declared for package in packages)


def test_an_extra_with_trl_is_known_to_want_python_3_11() -> None:
    text = PYPROJECT.read_text(encoding="utf-8")
    declared = {
        name: packages for name, packages in re.findall(r"^(\w+) = \[(.*)\]", text, re.MULTILINE) if name in EXTRAS
    }
    with_trl = {"language"} | {name for name, packages in declared.items() if re.search(r"\[[\w,]*language", packages)}
    assert with_trl == set(FROM_PYTHON_3_11)

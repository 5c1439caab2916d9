"""`gemma-metamon upstream check` and its table: what it reads off packages that only look like upstream's.

tests/upstream/test_metamon.py runs the whole of it where the real ones are.
"""

import importlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paths import GOLDENS, ROOT

from gemma_metamon.commands import main
from gemma_metamon.upstream import checks, trial, versions
from gemma_metamon.upstream.evaluation import EVALUATIONS
from gemma_metamon.upstream.versions import TREES, Tree

# ---- the table


@pytest.mark.parametrize(
    ("metamon", "amago", "fits"),
    [
        ("1.6.0", "3.4.0", "untried"),  # its metamon asks for it, but it cannot be had here
        ("1.6.0", "3.10.0", "untried"),
        ("1.6.0", "3.3.0", "no"),
        ("1.6.0", "3.1.2", "no"),
        ("1.5.1", "3.1.2", "yes"),
        ("1.5.1", "3.1.1", "no"),
        ("1.5.1", "3.3.0", "no"),
        ("1.4.0", "3.1.1", "yes"),
        ("1.4.0", "3.1.2", "yes"),
        ("1.4.0", "3.1.0", "no"),
        ("1.4.0", "3.3.0", "no"),
        ("1.5.0", "3.1.2", "untried"),
        ("2.0.0", "4.0.0", "untried"),
    ],
)
def test_a_pair_is_judged_by_the_table(metamon: str, amago: str, fits: str) -> None:
    verdict = versions.judge(metamon, amago)
    assert verdict.fits == fits
    assert metamon in verdict.reason
    assert bool(verdict.mend) == (fits == "no")


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_versions_are_compared_as_numbers(one: list[int], other: list[int]) -> None:
    """metamon compares them as text, where 3.10 comes before 3.4."""
    first, found = (".".join(map(str, numbers)) for numbers in (one, other))
    tree = Tree(**{**vars(TREES[0]), "amago": first, "last_amago": None})
    assert tree.takes(found) == (other >= one)


def test_each_row_says_how_to_install_it_and_which_versions_come() -> None:
    assert [tree.metamon for tree in TREES] == sorted((tree.metamon for tree in TREES), reverse=True)
    for tree in TREES:
        assert all(tree.takes(amago) for amago in tree.tried)
        assert all(mark in " ".join(tree.install_commands()) for mark in (tree.commit, tree.amago_checkout))
        assert versions.judge_poke_env(tree.metamon, tree.poke_env).fits == "yes"


@pytest.mark.parametrize(
    ("page", "trees"),
    [("docs/tutorials/inside_metamon.md", TREES), ("GEMMA_TRAINING.md", TREES[:1])],
    ids=["all", "newest"],
)
def test_the_docs_have_the_commands_of_the_table(page: str, trees: list[Tree]) -> None:
    text = re.sub(r"\s*\\\n\s*", " ", (ROOT / page).read_text(encoding="utf-8"))
    for tree in trees:
        for command in (*tree.install_commands(), *tree.train_commands()):
            assert f"\n{command}" in text, command


# ---- what is installed


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder before all others on Python's path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delenv(versions.ALLOW_ANY_POKE_ENV, raising=False)
    monkeypatch.setenv(versions.CACHE_DIR, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return folder


def put(packages: Path, name: str, source: str, installed_as: str | None = None) -> None:
    package = packages / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(source)
    if installed_as is not None:
        known_as = name.replace("_", "-")
        metadata = packages / f"{name}-{installed_as}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {known_as}\nVersion: {installed_as}\n")
    importlib.invalidate_caches()


def put_tree(packages: Path, tree: Tree, amago: str | None = None, poke_env: str | None = None) -> None:
    put(packages, "metamon", f'raise SystemExit("imported")\n__version__ = "{tree.metamon}"\n', tree.metamon)
    put(
        packages, "amago", 'from importlib.metadata import version\n__version__ = version("amago")', amago or tree.amago
    )
    put(packages, "poke_env", "", poke_env or tree.poke_env)


def check(capsys: pytest.CaptureFixture) -> tuple[int, dict[str, Any], list[str]]:
    status = main(["upstream", "check", "--quick", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["fits"] == (status == 0)
    return status, {row["name"]: row for row in said["rows"]}, said["commands"]


def wrong(rows: dict[str, Any]) -> list[str]:
    return [name for name, row in rows.items() if row["state"] == "wrong"]


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.metamon)
def test_an_environment_that_fits_is_said_to_with_the_flagships_command(
    tree: Tree, packages: Path, capsys: pytest.CaptureFixture
) -> None:
    put_tree(packages, tree)
    status, rows, commands = check(capsys)
    assert (status, wrong(rows)) == (0, [])
    assert commands == tree.train_commands()
    assert ("--dataset_config" in commands[-1]) == (tree.metamon == "1.6.0")
    assert ("gen 1 battles" in rows) == (tree.metamon != "1.6.0")


def test_an_amago_of_the_docs_before_is_refused_with_the_one_to_install(
    packages: Path, capsys: pytest.CaptureFixture
) -> None:
    put_tree(packages, TREES[0], amago="3.1.2")
    status, rows, _ = check(capsys)
    assert (status, wrong(rows)) == (1, ["the pair"])
    assert rows["the pair"]["mend"] == TREES[0].amago_install


def test_an_amago_that_calls_itself_otherwise_is_named(packages: Path, capsys: pytest.CaptureFixture) -> None:
    put_tree(packages, TREES[0], amago="3.3.0")
    with (packages / "amago" / "__init__.py").open("a") as file:
        file.write('\n__version__ = "3.4.0"\n')
    status, rows, _ = check(capsys)
    assert status == 0
    assert rows["amago's version"]["found"] == "it calls itself 3.4.0, but was installed as 3.3.0"
    assert "with 3.4.0 itself it was not tried" in rows["the pair"]["found"]


@pytest.mark.parametrize(("poke_env", "may_be_allowed"), [("0.8.3.3", True), ("0.16.1", False)])
def test_another_poke_env_is_refused_unless_metamon_is_told_to_take_it(
    poke_env: str, may_be_allowed: bool, packages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    put_tree(packages, TREES[1], poke_env=poke_env)
    status, rows, _ = check(capsys)
    assert (status, wrong(rows)) == (1, ["poke-env for it"])
    assert "poke-env.git@3b11ebf" in rows["poke-env for it"]["mend"]
    assert (f"export {versions.ALLOW_ANY_POKE_ENV}=1" in rows["poke-env for it"]["mend"]) == may_be_allowed
    monkeypatch.setenv(versions.ALLOW_ANY_POKE_ENV, "1")
    assert check(capsys)[1]["poke-env for it"]["state"] == "untried"


def test_a_missing_cache_folder_is_named(
    packages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    put_tree(packages, TREES[0])
    monkeypatch.delenv(versions.CACHE_DIR)
    _, rows, _ = check(capsys)
    assert wrong(rows) == [versions.CACHE_DIR]
    assert rows[versions.CACHE_DIR]["mend"] == "export METAMON_CACHE_DIR=~/metamon_cache"


def test_without_anything_each_package_is_missing_and_the_newest_is_offered(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_PACKAGES", (("metamon_x", "metamon-x"), ("amago_x", "amago-x"), ("pe_x", "pe-x")))
    rows = checks.look(packages)
    assert [row.found for row in rows if row.state == "wrong"] == ["not installed"] * 3
    assert all(row.mend == versions.INSTALL for row in rows if row.state == "wrong")
    assert checks.commands("") == TREES[0].train_commands()


def test_a_clone_in_the_folder_that_it_is_run_from_is_named(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Installed as it is, the package lies in the clone, and Python takes the clone for it."""
    clones = tmp_path / "clones"
    put_tree(clones / "metamon", TREES[0])
    for name in ("amago", "poke_env"):
        put(packages, name, "", {"amago": "3.4.0", "poke_env": "0.8.3.3"}[name])
    monkeypatch.syspath_prepend(str(clones))  # as `python -m` puts the folder there
    monkeypatch.chdir(clones)
    _, rows, commands = check(capsys)
    assert rows["metamon"]["state"] == "wrong"
    assert rows["metamon"]["mend"] == f"cd {clones / 'metamon'}"
    assert f"finds {clones / 'metamon'} here, the clone and not the package in it" in rows["this folder"]["found"]
    assert commands == TREES[0].train_commands()


def test_the_table_for_people_has_the_mend_below_its_row(packages: Path, capsys: pytest.CaptureFixture) -> None:
    put_tree(packages, TREES[0], amago="3.1.2")
    assert main(["upstream", "check"]) == 1
    printed = capsys.readouterr()
    assert re.search(
        r"^wrong +the pair +amago 3.1.2 and metamon 1.6.0 do not fit.*\n +-> pip install", printed.out, re.M
    )
    assert "the flagship, once that is mended:\n  gemma-metamon configs install\n" in printed.out
    assert "nothing was trained or played: mend the above first" in printed.err


# ---- the trial


def test_a_trial_that_fails_says_its_last_words_and_where_the_rest_is(packages: Path, tmp_path: Path) -> None:
    (row,) = checks.try_out(tmp_path, timeout_s=300)
    assert (row.name, row.state) == ("three updates", "wrong")
    assert row.found == "ModuleNotFoundError: No module named 'metamon'"
    assert row.mend == f"what it printed is in {tmp_path / 'update.txt'}"
    assert "Traceback" in (tmp_path / "update.txt").read_text()


def test_a_trial_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    (row,) = checks.try_out(tmp_path, timeout_s=0.01)
    assert row.state == "wrong"
    assert row.found.startswith("not done within 0.01 s")
    assert "--timeout_s" in row.mend


def test_a_time_limit_is_a_time(capsys: pytest.CaptureFixture) -> None:
    assert main(["upstream", "check", "--timeout_s", "0"]) == 1
    assert "--timeout_s 0.0; it must be above 0" in capsys.readouterr().err


# ---- recorded signatures: the siblings of tests/upstream/test_metamon.py that run everywhere


SIGNATURES = {
    path.stem.removeprefix("metamon-"): json.loads(path.read_text()) for path in (GOLDENS / "signatures").glob("*.json")
}
TRAINER = {"ckpt_dir", "run_name", "model_gin_config", "train_gin_config", "amago_dataset", "eval_gens", "epochs"}
TRAINER |= {"obs_space", "action_space", "reward_function", "async_env_mp_context", "dloader_workers"}
TRAINER |= {"batch_size_per_gpu", "steps_per_epoch"}
BATTLE = {"battle_format", "team_set", "checkpoint", "total_battles", "parallel_actors_per_baseline", "baselines"}


@pytest.fixture(params=TREES, ids=lambda tree: tree.metamon)
def tree(request: pytest.FixtureRequest) -> Tree:
    return request.param


def parse(command: str, flags: dict[str, Any]) -> dict[str, list[str]]:
    """A command line by the recorded flags of its script; fails for what it does not take."""
    given: dict[str, list[str]] = {}
    for word in shlex.split(command):
        if word.startswith("--"):
            assert word in flags, f"{word} is no flag"
            given[word] = []
        elif given:
            given[[*given][-1]].append(word)
    for flag, values in given.items():
        nargs = flags[flag]["nargs"]
        assert nargs == "*" or (len(values) > 0 if nargs == "+" else len(values) == (1 if nargs is None else nargs)), (
            flag
        )
    assert {flag for flag, of in flags.items() if of["required"]} <= given.keys()
    return given


def test_every_row_of_the_table_has_its_signature() -> None:
    assert SIGNATURES.keys() == {tree.metamon for tree in TREES}
    for tree in TREES:
        amago = SIGNATURES[tree.metamon]["amago"]
        assert amago in tree.tried or f"amago {amago} " in tree.tried_as


def test_the_command_of_a_version_has_flags_that_it_takes(tree: Tree) -> None:
    (train,) = [command for command in tree.train_commands() if command.startswith("python -m metamon.rl.train ")]
    given = parse(train, SIGNATURES[tree.metamon]["train_flags"])
    assert given["--model_gin_config"] == ["gemma_synthetic_multitaskagent.gin"]
    assert given["--eval_gens"] == []
    assert ("--dataset_config" in given) == tree.dataset_file


def test_the_trials_flags_are_those_of_the_version(tree: Tree, tmp_path: Path) -> None:
    flags = trial.train_flags(tmp_path, dataset_file=tree.dataset_file)
    given = parse(shlex.join(flags), SIGNATURES[tree.metamon]["train_flags"])
    assert given["--epochs"] == [str(trial.EPOCH + 1)]


def test_what_is_called_of_a_version_takes_what_it_is_given(tree: Tree) -> None:
    functions = {name: set(taken) for name, taken in SIGNATURES[tree.metamon]["functions"].items()}
    assert functions["create_offline_rl_trainer"] >= TRAINER
    assert functions["pretrained_vs_baselines"] >= BATTLE | {"pretrained_model"}
    assert "amago_ckpt_dir" in functions["LocalPretrainedModel"]


def test_evaluation_is_found_where_a_version_has_it(tree: Tree) -> None:
    signature = SIGNATURES[tree.metamon]
    assert signature["evaluate_module"] in EVALUATIONS
    assert {"--agent", "--checkpoints", "--gens"} <= signature["evaluate_flags"].keys()
    assert ("challenge" in signature["evaluate_flags"]["--eval_type"]["choices"]) == (tree.metamon == "1.6.0")


def test_missing_actions_are_masked_where_the_weight_of_the_critics_is(tree: Tree) -> None:
    """Both moved from the experiment to the agent at once: what the plugin looks at agrees with the record."""
    parameters = SIGNATURES[tree.metamon]["parameters"]
    on_agent = "critic_loss_weight" in parameters["amago.agent.MultiTaskAgent"]
    assert on_agent == (tree.metamon == "1.6.0")
    experiment = parameters["metamon.rl.metamon_to_amago.MetamonAMAGOExperiment"]
    assert ("critic_loss_weight" in experiment) == (not on_agent)

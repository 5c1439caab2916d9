"""`gemma-metamon metamon-evaluate`: what it hands to metamon's evaluation, among stand-ins, and what it refuses."""

import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import gin
import pytest
from support import upstream_stand_ins as upstream
from support.exported_runs import NOT_UPSTREAMS, description_of, write_run
from support.small_agent import TINY

from gemma_metamon.commands import main
from gemma_metamon.runs import resolve
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.upstream import evaluation
from gemma_metamon.upstream.evaluation import config_for_metamon

HEURISTIC = ["--eval_type", "heuristic", "--gens", "9", "1", "--formats", "ou", "--total_battles", "7"]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "mine")


def command(run_dir: Path, *extra: str) -> list[str]:
    return ["metamon-evaluate", "--run_dir", str(run_dir), *extra]


# ---- what metamon is asked


def evaluate(folder: Path, *arguments: str) -> dict[str, Any]:
    os.environ["METAMON_CACHE_DIR"] = str(folder)
    os.chdir(folder)
    upstream.install()
    evaluated = upstream.install_evaluation()
    assert main(["metamon-evaluate", *arguments]) == 0
    (asked,) = evaluated
    return asked


def test_metamon_evaluates_the_run_with_what_it_was_trained_with(run_dir: Path) -> None:
    asked = upstream.run(evaluate, run_dir.parent, "--run-dir", "mine", "--ckpt", "2", *HEURISTIC)
    assert (asked["amago_ckpt_dir"], asked["model_name"]) == (str(run_dir.parent), "mine")
    assert (asked["observation_space"], asked["action_space"]) == ("ExpandedObservationSpace", "MinimalActionSpace")
    assert asked["reward_function"] == "BinaryReward"
    assert asked["tokenizer"].ids == {word: index for index, word in enumerate(Vocabulary.default())}
    assert (asked["checkpoints"], asked["default_checkpoint"]) == ([2], 2)
    assert (asked["eval_type"], asked["gens"], asked["formats"]) == ("heuristic", [9, 1], ["ou"])
    assert asked["total_battles"] == 7
    assert asked["emb_dim"] == 192 + 32
    assert not Path(asked["model_gin_config"]).exists()  # nothing is left behind


def evaluate_with_a_package(folder: Path, *arguments: str) -> dict[str, Any]:
    """As in metamon 1.6.0, where the functions are in the package's __main__."""
    os.environ["METAMON_CACHE_DIR"] = str(folder)
    os.chdir(folder)
    upstream.install("3.4.0", "1.6.0", masked_in="agent")
    evaluated = upstream.install_evaluation("metamon.rl.evaluate.__main__")
    assert main(["metamon-evaluate", *arguments]) == 0
    (asked,) = evaluated
    return asked


def test_metamon_1_6_evaluates_from_a_package_and_gets_its_new_flags(run_dir: Path) -> None:
    challenge = ["--eval_type", "challenge", "--username", "a", "--opponent-username", "b", "--role", "acceptor"]
    asked = upstream.run(evaluate_with_a_package, run_dir.parent, "--run_dir", "mine", *challenge)
    assert (asked["eval_type"], asked["username"], asked["opponent_username"]) == ("challenge", "a", "b")
    assert (asked["role"], asked["checkpoints"], asked["emb_dim"]) == ("acceptor", [4], 192 + 32)


def evaluate_with_backend(folder: Path, there: bool, arguments: list[str]) -> tuple[int, str]:
    import contextlib
    import io

    os.environ["METAMON_CACHE_DIR"] = str(folder)
    upstream.install("3.4.0", "1.6.0", masked_in="agent")
    upstream.install_evaluation("metamon.rl.evaluate.__main__")
    if there:
        sys.modules["metamon.env.wrappers"].PokeAgentPlayer = object  # type: ignore[attr-defined]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        return main(arguments), said.getvalue()


@pytest.mark.parametrize(
    ("backend", "there", "status"), [("pokeagent", False, 1), ("pokeagent", True, 0), ("metamon", False, 0)]
)
def test_a_backend_that_metamon_offers_and_lacks_is_refused(
    backend: str, there: bool, status: int, run_dir: Path
) -> None:
    """1.6.0 lists `pokeagent`, whose class its environments do not import; 1.5.1 has it."""
    arguments = command(run_dir, *HEURISTIC, "--battle_backend", backend)
    found, said = upstream.run(evaluate_with_backend, run_dir.parent, there, arguments)
    assert found == status
    assert ("'PokeAgentPlayer' is not imported in metamon/env/wrappers.py" in said) == (status == 1)


def warnings_of_gens(gens: list[int], metamon: str) -> list[str]:
    from gemma_metamon.upstream.evaluation import warn_of_fight

    upstream.install("3.1.2", metamon)
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("gemma_metamon").addHandler(handler)
    warn_of_fight(gens)
    return logged


@pytest.mark.parametrize(("metamon", "gens", "warned"), [("1.5.1", [9, 1], 1), ("1.5.1", [9], 0), ("1.6.0", [1], 0)])
def test_gen_1_with_a_metamon_that_does_not_know_its_fight_button_is_warned_of(
    metamon: str, gens: list[int], warned: int
) -> None:
    logged = upstream.run(warnings_of_gens, gens, metamon)
    assert len(logged) == warned
    assert all("simulator that its clone names: git -C metamon submodule update --init" in one for one in logged)


def test_the_last_checkpoint_and_the_runs_own_words_are_taken(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", epochs=(2, 10, 4), words=["surf", "<move>"])
    asked = upstream.run(evaluate, tmp_path, "--run_dir", "mine", *HEURISTIC)
    assert asked["checkpoints"] == [10]
    assert asked["tokenizer"].ids == {"surf": 0, "<move>": 1}


def test_a_space_that_only_metamon_knows_is_evaluated_too(run_dir: Path) -> None:
    path = description_of(run_dir)
    path.write_text(path.read_text().replace("ExpandedObservationSpace", "NewerObservationSpace"))
    asked = upstream.run(evaluate, run_dir.parent, "--run_dir", "mine", *HEURISTIC)
    assert asked["observation_space"] == "NewerObservationSpace"


def complaint_of_an_older_metamon(folder: Path, *arguments: str) -> tuple[list[str], str]:
    os.environ["METAMON_CACHE_DIR"] = str(folder)
    upstream.install()
    upstream.install_evaluation()

    def get_observation_space(name: str) -> None:
        raise ValueError(f"Unknown observation space '{name}' (available: ['DefaultObservationSpace'])")

    sys.modules["metamon.interface"].get_observation_space = get_observation_space  # type: ignore[attr-defined]
    return upstream.complaint_of(evaluation.evaluate, folder / "mine", 2, list(arguments))


def test_a_space_that_the_installed_metamon_does_not_have_is_refused_by_name(run_dir: Path) -> None:
    path = description_of(run_dir)
    path.write_text(path.read_text().replace("ExpandedObservationSpace", "GroupedObservationSpace"))
    kinds, said = upstream.run(complaint_of_an_older_metamon, run_dir.parent, *HEURISTIC)
    assert "ConfigError" in kinds
    assert "Unknown observation space 'GroupedObservationSpace' (available: " in said
    assert "on the metamon that trained it, or here with `gemma-metamon import`" in said


@pytest.mark.parametrize("width", [80, 20], ids=["usual lines", "every value on a line of its own"])
def test_a_config_for_metamon_lacks_only_what_some_amagos_do_not_have(width: int) -> None:
    bindings = dict(resolve.load(TINY, "binary_rl.gin").bindings)
    assert bindings.pop("MetamonAMAGOExperiment.critic_loss_weight") == "10.0"
    resolve.load(TINY, "binary_rl.gin", NOT_UPSTREAMS)
    text = gin.config_str(max_line_length=width)
    assert ("value_estimate = \\\n" in text) == (width == 20)
    assert resolve.load_text(config_for_metamon(text)).bindings == bindings
    assert resolve.load_text(config_for_metamon(text.rstrip("\n"))).bindings == bindings


@pytest.mark.parametrize("width", [80, 20], ids=["usual lines", "every value on a line of its own"])
@pytest.mark.parametrize("training", ["alakazam_bnorm_beta3_hlgauss.gin", "alakazam3_isfilter.gin"])
def test_a_config_for_metamon_names_nothing_of_learning_that_an_older_one_has_not(training: str, width: int) -> None:
    bindings = dict(resolve.load(TINY, training).bindings)
    text = config_for_metamon(gin.config_str(max_line_length=width))
    assert re.search(r"^[^#]*(Filter\b|label_type)", text, re.MULTILINE) is None
    lost = bindings.keys() - resolve.load_text(text).bindings.keys()
    assert {name for name in lost if "Filter." not in name} == {
        "Agent.fbc_filter_func",
        "MultiTaskAgent.fbc_filter_func",
        "MetamonAMAGOExperiment.critic_loss_weight",
        *(["NCriticsTwoHot.label_type"] if "hlgauss" in training else []),
    }


def test_a_config_for_metamon_imports_the_plugin_once() -> None:
    line = "import gemma_metamon.upstream.plugin\n"
    assert config_for_metamon("a = 1\n") == f"{line}a = 1\n"
    assert config_for_metamon(f"{line}a = 1\n") == f"{line}a = 1\n"


# ---- what is refused, in one sentence


def sentence(capsys: pytest.CaptureFixture, arguments: list[str]) -> str:
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err.strip()


@pytest.mark.parametrize("epochs", [(0,), (0, 2)], ids=["the only one", "asked for"])
def test_checkpoint_0_is_refused(epochs: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run_dir = write_run(tmp_path / "mine", epochs=epochs)
    asked = ["--ckpt", "0"] if len(epochs) > 1 else []
    said = sentence(capsys, command(run_dir, *asked, *HEURISTIC))
    assert "loads no checkpoint 0: it would silently play random weights" in said


def test_a_checkpoint_that_is_not_there_is_refused_with_those_that_are(
    run_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    said = sentence(capsys, command(run_dir, "--ckpt", "3", *HEURISTIC))
    assert said.endswith("mine has no checkpoint 3; it has 0, 2, 4")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        said = sentence(capsys, command(folder, *HEURISTIC))
        assert "holds no ckpts/policy_weights/policy_epoch_<N>.pt; give a run of metamon's" in said


def test_a_run_without_a_description_is_refused(run_dir: Path, capsys: pytest.CaptureFixture) -> None:
    description_of(run_dir).unlink()
    said = sentence(capsys, command(run_dir, *HEURISTIC))
    assert "gemma_metamon.json does not exist, so nothing says what the run sees and may do" in said


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"config"', '"konfig"'),
        lambda text: json.dumps({**json.loads(text), "identity": 3}),
        lambda text: json.dumps({**json.loads(text), "config": None}),
        lambda text: json.dumps({**json.loads(text), "vocabulary": 5}),
        lambda text: json.dumps({**json.loads(text), "identity": {**json.loads(text)["identity"], "obs_space": 1}}),
    ],
    ids=["half", "a list", "a field missing", "no identity", "no config", "words that are none", "a number for a name"],
)
def test_a_damaged_description_is_refused(change: Any, run_dir: Path, capsys: pytest.CaptureFixture) -> None:
    path = description_of(run_dir)
    path.write_text(change(path.read_text()))
    assert "gemma_metamon.json is no description of a run" in sentence(capsys, command(run_dir, *HEURISTIC))


@pytest.mark.parametrize(
    "passed", [["--agent", "SmallRL"], ["--agent=SmallRL"], ["--checkpoints", "2"], ["--check=2"], ["--ag", "SmallRL"]]
)
def test_flags_that_the_command_sets_itself_are_refused(
    passed: list[str], run_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    said = sentence(capsys, command(run_dir, *HEURISTIC, *passed))
    assert f"{passed[0].split('=')[0]} is set by --run_dir and --ckpt; leave it out" in said


def test_without_metamons_cache_folder_the_variable_is_named(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("METAMON_CACHE_DIR", raising=False)
    said = sentence(capsys, command(run_dir, *HEURISTIC))
    assert "metamon needs the environment variable METAMON_CACHE_DIR: a folder" in said


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAMON_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("cache_folder")
def test_without_metamon_the_install_commands_are_given(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "metamon", None)
    said = sentence(capsys, command(run_dir, *HEURISTIC))
    assert "metamon is not installed here; install it from its clone: git clone https://github.com" in said


@pytest.mark.usefixtures("cache_folder")
@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("", "has no metamon.rl, so it is not UT-Austin-RPL's"),
        (
            "raise ImportError('poke-env 0.16\\nis not supported')",
            "does not start here: poke-env 0.16 is not supported",
        ),
        ("assert False, 'AMAGO v3.4.0+ required'", "does not start here: AMAGO v3.4.0+ required; `gemma-metamon"),
        (
            "import nosuchmodule",
            "does not start here: No module named 'nosuchmodule'; `gemma-metamon upstream check` says",
        ),
    ],
    ids=["PyPI's metamon", "another poke-env", "another amago", "without what it needs"],
)
def test_a_metamon_that_cannot_be_imported_is_one_sentence(
    source: str, complaint: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    package = tmp_path / "packages" / "metamon"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(source)
    status, said = upstream.run(evaluate_beside, package.parent, command(run_dir, *HEURISTIC))
    assert status == 1
    assert complaint in said


def evaluate_beside(packages: Path, arguments: list[str]) -> tuple[int, str]:
    import contextlib
    import io

    upstream.find_packages_in(packages)
    os.environ["METAMON_CACHE_DIR"] = str(packages)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        return main(arguments), said.getvalue()


def test_a_version_of_metamon_with_another_evaluation_is_named(run_dir: Path) -> None:
    status, said = upstream.run(evaluate_with_an_older_metamon, command(run_dir, *HEURISTIC))
    assert status == 1
    assert "has no _run_default_evaluation in metamon.rl.evaluate or metamon.rl.evaluate.__main__; what was" in said


def evaluate_with_an_older_metamon(arguments: list[str]) -> tuple[int, str]:
    upstream.install()
    upstream.install_evaluation()
    del sys.modules["metamon.rl.evaluate"]._run_default_evaluation
    return evaluate_beside(Path("/"), arguments)


def evaluate_weights_that_do_not_fit(arguments: list[str], complaint: str) -> tuple[int, str]:
    upstream.install()
    upstream.install_evaluation()

    def load(args: Any) -> None:
        raise RuntimeError(complaint)

    sys.modules["metamon.rl.evaluate"]._run_default_evaluation = load  # type: ignore[attr-defined]
    return evaluate_beside(Path("/"), arguments)


@pytest.mark.parametrize(
    "complaint",
    [
        "Error(s) in loading state_dict for MultiTaskAgent:\n\tsize mismatch for popart.mu",
        "Shape mismatch for 1 parameters:\n  popart.mu: model=[7, 1] vs ckpt=[1, 1]",
        "Checkpoint is missing 1 keys expected by the model:\n  popart.mu",
        "Checkpoint has 1 unexpected keys not in the model:\n  popart.mu",
    ],
)
def test_weights_of_another_configuration_are_said_to_be_so(complaint: str, run_dir: Path) -> None:
    """The first is torch's word, the others are metamon 1.6.0's."""
    status, said = upstream.run(evaluate_weights_that_do_not_fit, command(run_dir, *HEURISTIC), complaint)
    assert status == 1
    assert "was not made by the configuration in its gemma_metamon.json" in said
    assert " ".join(complaint.split()) in said


@pytest.mark.parametrize("arguments", [["configs", "list"], ["showdown", "status"], ["inspect", "x.json"]])
def test_other_commands_refuse_a_flag_that_they_do_not_know(
    arguments: list[str], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as error:
        main([*arguments, "--total_battles", "7"])
    assert error.value.code == 2
    assert "unrecognized arguments: --total_battles 7" in capsys.readouterr().err

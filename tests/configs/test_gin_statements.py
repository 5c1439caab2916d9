"""What a gin text may do: bind values. Nothing that it imports, includes or refers to is run."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.modules import PACKAGE
from support.paths import BATTLE_FILES, ROOT
from support.processes import free_port
from support.small_agent import SMALL, TINY, train_command

from gemma_metamon.commands import main
from gemma_metamon.configs.names import EXPERIMENT, bases_of, configurable, registered
from gemma_metamon.configs.statements import MOST_CHARACTERS, require_saved_imports
from gemma_metamon.errors import ConfigError, GemmaMetamonError, MissingFileError
from gemma_metamon.runs import resolve, sizes
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_agent
from gemma_metamon.view import BattleView

PLUGIN = "import gemma_metamon.upstream.plugin\n"
RUN = "RUN"
ELSEWHERE = ["--server", "ws://127.0.0.1:1/showdown/websocket", "--username", "Anna"]  # nobody is there to be asked
LENGTH = ["--battles_per_round", "2", "--steps_per_round", "1"]
FOREIGN = {
    "import": "import evil_module",
    "from": "from evil_package import evil",
    "as": "import evil_module as gemma_metamon",
    "continued": "import \\\n  evil_module",
    "package": "import evil_package.x",
    "standard library": "import antigravity",
    "dynamic registration": "from __gin__ import dynamic_registration",
    "a call of its own": "from __gin__ import dynamic_registration\nimport gemma_metamon.atomic_files\n"
    "@gemma_metamon.atomic_files.os.system()",
    "the path of an include": "include 'evil_package/x.gin'",
    "the module of an include": "include 'evil_module/y/x.gin'",
}


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current folder holds a module and a package, and nothing of them may be run."""
    traps = tmp_path / "traps"
    (traps / "evil_package").mkdir(parents=True)
    code = f"open({str(tmp_path / 'was_run')!r}, 'w').close()\n"
    for path in ("evil_module.py", "evil_package/__init__.py"):
        (traps / path).write_text(code)
    monkeypatch.chdir(traps)
    monkeypatch.syspath_prepend(str(traps))
    yield
    assert not (tmp_path / "was_run").exists()


@pytest.mark.usefixtures("trap")
@pytest.mark.parametrize("line", FOREIGN.values(), ids=FOREIGN)
def test_no_text_runs_a_module_that_is_not_ours(line: str) -> None:
    Path("mine.gin").write_text(f"include '{TINY}'\n{line}\n")
    Path("other.gin").write_text("include 'mine.gin'\n")
    for file in ("mine.gin", "other.gin"):
        with pytest.raises(GemmaMetamonError, match=r"mine\.gin.*(may import gemma_metamon|no such file)"):
            resolve.load(file)
    with pytest.raises(ConfigError, match=r"may import gemma_metamon\.upstream\.plugin alone|includes a file"):
        resolve.load_text(f"{PLUGIN}{line}\n")
    with pytest.raises(ConfigError, match=r"can import nothing|includes a file"):
        resolve.load(TINY, overrides=[line])
    with pytest.raises(ConfigError, match=r"alone|includes a file"):
        require_saved_imports(f"{PLUGIN}Actor.tokenizer = @somebody.Elses()\n{line}\n", "a run of metamon's")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that a stranger has given an import."""
    folder = tmp_path_factory.mktemp("stranger")
    assert main(train_command(folder)) == 0
    for epoch in (0, 1):
        add_import(Checkpoint(folder / "run", epoch).folder / "checkpoint.json")
    return folder / "run"


def add_import(path: Path) -> None:
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({**saved, "config": f"import evil_module\n{saved['config']}"}))


@pytest.mark.usefixtures("trap")
@pytest.mark.parametrize(
    "command",
    [
        ["explain", str(BATTLE_FILES[0]), "--run_dir", RUN],
        ["export", "--run_dir", RUN, "--to", "amago", "--out", "out"],
        ["export", "--run_dir", RUN, "--to", "merged", "--out", "out"],
        ["improve", "--run_dir", RUN, "--rounds", "1", "--out", "out", "--format", "gen1ou", *LENGTH],
        ["evaluate", "--run_dir", RUN, "--format", "gen1ou", "--opponents", "RandomPlayer", "--battles", "2"],
        ["collect", "--players", RUN, "--format", "gen1ou", "--battles", "2", "--out", "out"],
        ["ladder", "--run_dir", RUN, "--format", "gen1ou", *ELSEWHERE],
        ["serve", RUN, "--port", str(free_port())],
        ["release", RUN, "--gates", str(ROOT / "examples" / "gates.toml"), "--out", "out"],
        ["registry", "register", RUN, "--name", "theirs", "--registry", "models"],
        [
            "chat",
            "export",
            "--parsed_replay_dir",
            str(BATTLE_FILES[0].parents[1]),
            "--agree_with",
            RUN,
            "--out",
            "out.jsonl",
        ],
    ],
    ids=lambda command: " ".join(word for word in command if re.fullmatch("[a-z]+", word))[:16],
)
def test_a_strangers_run_is_refused_by_name(
    command: list[str], run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_dir) if word == RUN else word for word in command]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "saved with the run would run 'import evil_module'; what is saved with a run may import" in said


@pytest.mark.usefixtures("trap")
def test_a_strangers_run_is_begun_from_and_nothing_of_it_runs(run_dir: Path, tmp_path: Path) -> None:
    """Its weights are taken; the configuration is that of the flags."""
    assert main([*train_command(tmp_path), "--init_from", str(run_dir)]) == 0


def test_gin_itself_is_given_no_text() -> None:
    """Whoever reads one does it by `configs.statements`, which binds and runs nothing."""
    texts = "".join(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py")))
    given = re.findall(r"gin(?:\.config)?\.parse_\w+\(.*", texts)
    assert given == ['gin.parse_config(f"import {PLUGIN}")  # so that the resolved text has it, for a metamon process']


@pytest.mark.usefixtures("trap")
def test_a_strangers_run_is_not_loaded_to_play(run_dir: Path) -> None:
    """`evaluate`, `collect` and `ladder` play with what this loads."""
    with pytest.raises(ConfigError, match="would run 'import evil_module'"):
        load_agent(Checkpoint(run_dir, 1), "cpu")


@pytest.mark.usefixtures("trap")
def test_a_strangers_export_is_not_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train_command(tmp_path)) == 0
    assert main(["export", "--run_dir", str(tmp_path / "run"), "--to", "amago", "--out", str(tmp_path / "out")]) == 0
    exported = tmp_path / "out" / "run" / "ckpts"
    add_import(exported / "gemma_metamon.json")
    command = ["import", "--from", "amago", str(exported / "policy_weights" / "policy_epoch_1.pt")]
    assert main([*command, "--save_dir", str(tmp_path / "in"), "--run_name", "run"]) == 1
    assert "would run 'import evil_module'" in capsys.readouterr().err


def test_the_package_may_be_imported_and_must_be_there(tmp_path: Path) -> None:
    mine = tmp_path / "mine.gin"
    mine.write_text(
        f"import gemma_metamon.nets.heads.actors\nfrom gemma_metamon import configs as c\ninclude '{TINY}'\n"
    )
    assert resolve.load(str(mine)).text.startswith(PLUGIN)
    mine.write_text(f"import gemma_metamon.nets.actresses\ninclude '{TINY}'\n")
    with pytest.raises(ConfigError, match=r"imports gemma_metamon\.nets\.actresses, which this version .* not have"):
        resolve.load(str(mine))


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"a.gin": "include 'a.gin'"}, r"a\.gin includes itself"),
        ({"a.gin": "include 'b.gin'", "b.gin": "include 'c.gin'", "c.gin": "include 'a.gin'"}, "includes itself"),
        ({"a.gin": "include 'b.gin'\n" * 200, "b.gin": "x = 1"}, r"b\.gin is the 101st file of one configuration"),
        ({"a.gin": "\n\ninclude 'b.gin'"}, r"a\.gin includes 'b\.gin', and there is no such file"),
        ({"a.gin": "include '\\0'"}, "no such file"),
        ({"a.gin": "include '/dev/zero'"}, "no such file"),
        ({"a.gin": "x" * (MOST_CHARACTERS + 1)}, "longer than the 100,000 characters"),
        ({"a.gin": "\udcff"}, "cannot be read as a .gin file .'utf-8' codec can't decode"),
        ({"a.gin": "x = 1\nActor.d_hidden =\n"}, r"a\.gin, line 2 \('Actor\.d_hidden ='\): Unable to parse value"),
        ({"a.gin": "x = 1\n\nActor.nope = 1"}, r"line 3 \('Actor\.nope = 1'\): Configurable 'Actor' doesn't have"),
        ({"a.gin": "x = 1\n\nActor.d_hidden = @nope"}, r"line 3 \(.*\): No configurable matching reference '@nope'"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(
    files: dict[str, str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        Path(name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises((ConfigError, MissingFileError), match=complaint) as error:
        resolve.load("a.gin")
    assert "\n" not in str(error.value)


WRONG = {
    "GemmaTstepEncoder.lora_r = %nope": "the macro %nope is not defined; add a line `nope = VALUE`",
    "GemmaTstepEncoder.lora_r = %gin.REQUIRED": "the macro %gin.REQUIRED is not defined",
    "a = %a": r"the macro %a is defined by itself \(%a\)",
    "a = [1, %b]\nb = %a": "the macro %b is defined by itself",
    "a = [%b, %b, %b, %b]\nb = [%c, %c, %c, %c]\nc = [%d, %d, %d, %d]\nd = [%e, %e, %e, %e]\n"
    "e = [%f, %f, %f, %f]\nf = [%g, %g, %g, %g]\ng = [%h, %h, %h, %h]\nh = 1": "more than 10,000 values",
    "lora_r = 4": r"sets a macro that nothing uses; .* Name\.lora_r = VALUE",
    "MultiTaskAgent.fbc_filter_func = @Actor": "expected @binary_filter or @exp_filter or @leaky_relu_filter",
    "MultiTaskAgent.actor_type = @agent.Agent": "is not of its type; expected @Actor or @ResidualActor or @Metamon",
    "MetamonAMAGOExperiment.agent_type = @agent.MultiTaskAgent()": "before what it is for is there; write it without",
    "MultiTaskAgent.actor_type = @best_attention()": "is not of its type",
    "MetamonMaskedActor.d_hidden = @Actor": "expected int",
    "GemmaTstepEncoder.backbone_config = {'hidden_size': @gin.macro}": "there is no such thing as @gin.macro here",
    "WordTstepEncoder.encoder_type = @WordTstepEncoder": r"WordTstepEncoder is to be built of itself",
    "WordTstepEncoder.encoder_type = @a/WordTstepEncoder\na/WordTstepEncoder.encoder_type = @WordTstepEncoder": "self",
    "WordTstepEncoder.words = {}": "doesn't have a parameter named 'words'",
    "TformerTrajEncoder.self = 1": "doesn't have a parameter named 'self'",
    "MultiTaskAgent.obs_space = 3": "MultiTaskAgent gets its obs_space from what it is built for, not from gin",
    "gin.singleton.constructor = @Actor": "No configurable matching 'gin.singleton'",
    "a/b/MetamonMaskedActor.d_hidden = 'x'": r"a/b/MetamonMaskedActor\.d_hidden = 'x' is not of its type; expected int",
    "MetamonMaskedActor.d_hidden = 0x" + "f" * 5000: "a number in it is beyond 64 bits",
    "MetamonMaskedActor.d_hidden = 10000000000000000000": "a number in it is beyond 64 bits",
    "MultiTaskAgent.gamma = 1e999": "a number in it is not finite",
    "MultiTaskAgent.gamma = 1j": "complex is no type of a value here",
    "GemmaTstepEncoder.model_name = b'x'": "bytes is no type",
    "GemmaTstepEncoder.model_name = '\\0'": "a character that cannot be printed",
    "GemmaTstepEncoder.model_name = '\\ud800'": "a character that cannot be printed",
    "GemmaTstepEncoder.model_name = '" + "x" * 5000 + "'": "a text in it is 5,000 characters long; at most 4,096",
    "GemmaTstepEncoder.model_name = '" + "x" * 10**7 + "'": "longer than the 100,000 characters",
    "Multigammas.discrete = " + "[" * 5000 + "]" * 5000: "it is nested too deeply",
    "Multigammas.discrete = " + "[" * 30 + "]" * 30: "it is nested deeper than 10 levels",
    "Multigammas.discrete = [" + "1," * 20_000 + "]": "it has 20,000 entries; at most 10,000",
    "Multigammas.discrete = [[[": "EOF in multi-line statement",
    "GemmaTstepEncoder.backbone_config = {[1]: 2}": "unhashable",
    "GemmaTstepEncoder.backbone_config = {1: 2}": "is not of its type",
    "MultiTaskAgent.tau = nan": "Failed to parse token 'nan'",
    "é.x = 1": "Malformatted scope or selector",
    "\0": "gin cannot read",
    "'''": "EOF in multi-line string",
    "TformerTrajEncoder.n_layers = 1000000": r"TformerTrajEncoder\.n_layers = 1000000; it must be a whole number",
    "TformerTrajEncoder.dropout_ff = 5.0": r"TformerTrajEncoder\.dropout_ff = 5\.0; it must be a number",
    "TformerTrajEncoder.n_heads = 3": r"TformerTrajEncoder\.n_heads \(3\) must divide d_model \(16\)",
    "TformerTrajEncoder.d_model = 1000000000": "it must be a whole number from 1 to 65,536",
    "TformerTrajEncoder.d_model = 65536\nTformerTrajEncoder.d_ff = 65536\nTformerTrajEncoder.n_layers = 99": r"agent of"
    r" 2,551,\d+,\d+,\d+ parameters \(most of them in its traj_encoder",
    "MetamonAMAGOExperiment.learning_rate = 1e30": r"learning_rate = 1e\+30; it must be a number above 0 and at most 1",
    "exp_filter.beta = -1\nMultiTaskAgent.fbc_filter_func = @exp_filter": r"exp_filter\.beta = -1; it must be",
    "MultiTaskAgent.pass_obs_keys_to_actor = ['illegal_actions', 'nope']": "names 'nope', but the observations are num",
    "GemmaTstepEncoder.backbone_config = {'num_hidden_layers': 1000000}": "num_hidden_layers = 1000000; it must be",
}


VIEW = BattleView.from_names(
    obs_space="DefaultObservationSpace", action_space="MinimalActionSpace", reward_function="BinaryReward"
)


def load_and_build(overrides: list[str]) -> Any:
    """The agent, without weights."""
    resolve.load(TINY, "binary_rl.gin", overrides)
    with torch.device("meta"):
        return configurable(EXPERIMENT)().build_agent(VIEW)


@pytest.mark.parametrize(
    ("override", "complaint"), WRONG.items(), ids=[re.sub(r"\W+", "_", wrong)[:60] for wrong in WRONG]
)
def test_a_wrong_override_is_one_sentence(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as error:
        load_and_build([*SMALL, override])
    sentence = str(error.value).split("\n  In call to configurable", 1)[0]
    assert sentence.isprintable()
    assert len(sentence) < 700


def test_macros_of_macros_and_scopes_reach_the_agent() -> None:
    scoped = ["wide/MetamonMaskedActor.d_hidden = %a", "MultiTaskAgent.actor_type = @wide/MetamonMaskedActor"]
    inside = ["Multigammas.discrete = %c", "c = [0.5, %d]", "d = 0.25"]
    agent = load_and_build([*SMALL, "a = %b", "b = 32", *scoped, *inside])
    assert agent.actor.base.in_layer.out_features == 32
    assert agent.discounts == [0.5, 0.25, 0.999]


def test_an_agent_that_the_machine_cannot_hold_is_refused_before_its_weights_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve.load(TINY, None, SMALL)
    monkeypatch.setattr(sizes, "memory_bytes", lambda: 100_000)
    with pytest.raises(ConfigError, match=r"agent are 0\.\d GB \(most of them in .*\), but this machine has 0\.0 GB"):
        configurable(EXPERIMENT)().build_agent(VIEW)


def test_a_module_that_is_trusted_is_run_and_what_it_registers_can_be_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"trusted_{tmp_path.name.replace('-', '_')}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / package / "inner.py").write_text(
        "from gemma_metamon.configs.names import register\ndef own(size: int = 3) -> int:\n    return size\n"
        f"register('{package}_own', '{package}', own)\n"
    )
    (tmp_path / package / "broken.py").write_text("raise KeyError('of theirs')\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "own.gin"
    path.write_text(f"import {package}.inner\ninclude '{TINY}'\n{package}_own.size = 5\n")
    with pytest.raises(ConfigError, match=f"trust that code by --trust_config {package}"):
        resolve.load(str(path))
    with pytest.raises(ConfigError, match="would run"):
        resolve.load(str(path), trusted=[f"{package}_other", package[:-1]])
    try:
        assert resolve.load(str(path), trusted=[package]).bindings[f"{package}_own.size"] == "5"
        with pytest.raises(ConfigError, match="imports; an override"):
            resolve.load(str(path), overrides=[f"import {package}.inner"], trusted=[package])
        with pytest.raises(ConfigError, match="saved with the run"):
            resolve.load_text(f"import {package}.inner")
        path.write_text(f"import {package}.broken\n")
        with pytest.raises(ConfigError, match=r"--trust_config trusts, and that fails \(KeyError: 'of theirs'\)"):
            resolve.load(str(path), trusted=[package])
    finally:
        registered.pop(f"{package}_own", None)


@pytest.mark.parametrize("signature", ["adv: Tensor, share: float = 0.5) -> Tensor", "adv, share=0.5)"])
def test_what_a_trusted_module_registers_needs_no_annotations_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signature: str
) -> None:
    name = f"filter_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
        "from gemma_metamon.configs.names import register\n"
        f"if TYPE_CHECKING:\n    from torch import Tensor\ndef {name}({signature}:\n    return share + 0 * adv\n"
        f"register('{name}', 'theirs', {name})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "own.gin"
    path.write_text(f"import {name}\ninclude '{TINY}'\n{name}.share = 0.25\nMultiTaskAgent.fbc_filter_func = @{name}\n")
    try:
        assert resolve.load(str(path), trusted=[name]).bindings[f"{name}.share"] == "0.25"
        with pytest.raises(ConfigError, match=r"gamma = 'much' is not of its type; expected float"):
            resolve.load(str(path), overrides=["MultiTaskAgent.gamma = 'much'"], trusted=[name])
    finally:
        registered.pop(name, None)


def test_a_trusted_module_cannot_take_a_name_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"encoder_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "from gemma_metamon.configs.names import register\nclass Mine: ...\n"
        "register('GemmaTstepEncoder', 'theirs', Mine)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "own.gin"
    path.write_text(f"import {name}\ninclude '{TINY}'\n")
    said = (
        rf"{name}.Mine cannot be called GemmaTstepEncoder, as gemma_metamon\.\S+\.GemmaTstepEncoder is; choose another"
    )
    with pytest.raises(ConfigError, match=said):
        resolve.load(str(path), trusted=[name])


def test_the_nearest_of_the_classes_that_one_extends_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    class Far: ...

    class Near(Far): ...

    class Made(Near): ...

    for made in (Near, Made, Far):  # in no order
        monkeypatch.setitem(registered, made.__name__, (f"theirs.{made.__name__}", made))
    assert bases_of(Made) == ["Far", "Near"]
    assert bases_of(print) == []

"""Every example does what its first line says, at a small size, as a program of its own."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.paths import BATTLE_FILES, ROOT
from support.small_agent import BATTLES, SMALL, train_command

from gemma_metamon.battle.observations import OBSERVATION_SPACES, ObservationSpace
from gemma_metamon.battle.replays import RecordedBattle, load_battle
from gemma_metamon.nets.reader.subword_lookup import SubwordLookup
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.text.slots import split_turn
from gemma_metamon.text.subwords import SubwordTable
from gemma_metamon.text.vocabulary import Vocabulary

EXAMPLES = ROOT / "examples"
GEN1 = [path for path in BATTLE_FILES if path.parent == BATTLES / "gen1ou"]
pytestmark = pytest.mark.slow


def run_example(name: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def of_small_agent(*names: str) -> list[str]:
    """Flags that make the agent small; none of the parts that `names` begins with."""
    return [part for override in SMALL if not override.startswith(names) for part in ("--gin_override", override)]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What examples/train_from_python.py has trained."""
    folder = tmp_path_factory.mktemp("runs") / "from_python"
    size = ["--updates", 2, "--batch_size", 2, "--model", "gemma_tiny_multitaskagent.gin"]
    printed = run_example(
        "train_from_python.py", "--run_dir", folder, "--battles", BATTLES, *size, *of_small_agent("NCriticsTwoHot")
    )
    assert "saved from_python@1" in printed
    assert re.search(r"2 updates of [\d,]+ weights, from \d+ battles", printed)
    return folder


def test_every_example_is_short_and_tried() -> None:
    tried = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 80, path.name
        assert f'"{path.name}"' in tried, path.name


def test_a_run_that_was_trained_from_python_is_a_run_like_any_other(run_dir: Path) -> None:
    meta = Checkpoint.find(run_dir).read_meta()
    assert (meta.epoch, meta.updates) == (1, 2)


@pytest.mark.server
def test_an_agent_plays_as_a_poke_env_player(run_dir: Path) -> None:
    printed = run_example("agent_as_poke_env_player.py", run_dir, "--battles", 2)
    assert re.fullmatch(r"[0-2] of 2 battles won against MaxBasePowerPlayer \(\d+% to \d+%\)\n", printed)


def test_a_battle_is_embedded_by_the_encoder_alone(run_dir: Path, tmp_path: Path) -> None:
    printed = run_example("embed_battle.py", GEN1[0], "--run", run_dir, "--out", tmp_path / "vectors.pt")
    vectors = torch.load(tmp_path / "vectors.pt")
    assert printed.startswith(f"{vectors.shape[0]} states, vectors of {vectors.shape[1]} entries\n")
    assert vectors.isfinite().all()
    assert not torch.equal(vectors[0], vectors[1])


def test_a_store_is_read_as_a_data_set(tmp_path: Path) -> None:
    prepare = [sys.executable, "-m", "gemma_metamon", "prepare", "--workers", "1", "--out", str(tmp_path / "store")]
    subprocess.run([*prepare, "--parsed_replay_dir", str(BATTLES), "--formats", "gen9ou"], check=True)
    printed = run_example("store_as_dataset.py", tmp_path / "store")
    found = re.fullmatch(r"(\d+) battles, (\d+) choices: (\d+) moves, (\d+) switches, (\d+) terastallised\n", printed)
    assert found is not None, printed
    battles, choices, moves, switches, terastallised = map(int, found.groups())
    assert battles == len(list((BATTLES / "gen9ou").glob("*.json.lz4")))
    assert choices == moves + switches + terastallised > 0


def test_a_reward_of_ones_own_is_trained_for_and_recorded(tmp_path: Path) -> None:
    run_example("custom_reward.py", *train_command(tmp_path, "--reward_function", "TempoReward"))
    assert Checkpoint.find(tmp_path / "run").read_meta().identity.reward_function == "TempoReward"


@pytest.mark.parametrize("granularity", ["turn", "entity"])
def test_an_observation_space_of_ones_own_is_read_whole_and_in_parts(tmp_path: Path, granularity: str) -> None:
    space = ["--obs_space", "DuelSpace", "--gin_override", f"GemmaTstepEncoder.granularity = '{granularity}'"]
    fusion = ["--gin_override", "GemmaTstepEncoder.fusion_heads = 2"] if granularity == "entity" else []
    run_example("custom_observations.py", *train_command(tmp_path, *space, *fusion))
    assert Checkpoint.find(tmp_path / "run").read_meta().identity.obs_space == "DuelSpace"


@pytest.fixture
def spaces(monkeypatch: pytest.MonkeyPatch) -> tuple[ObservationSpace, ObservationSpace]:
    """TeamPreview's, and that of examples/custom_phrasing.py, whose name no other test is to know."""
    known = dict(OBSERVATION_SPACES)
    runpy.run_path(str(EXAMPLES / "custom_phrasing.py"))
    both = OBSERVATION_SPACES["TeamPreviewObservationSpace"], OBSERVATION_SPACES["SteadyFirstSpace"]
    OBSERVATION_SPACES.clear()
    OBSERVATION_SPACES.update(known)
    return both


def subwords_left_to_read(battle: RecordedBattle, space: ObservationSpace) -> int:
    """Of a battle's different turns, without what each has in common with the one before it."""
    words, _ = space.observe_battle(battle.states)
    table = SubwordTable.load("natural").packaged
    texts, _ = SubwordLookup(table, compact=False)(torch.tensor(Vocabulary.default().encode(words))).sorted_distinct()
    return int(texts.lengths.sum() - texts.shared().sum())


def test_a_turn_that_is_phrased_another_way_says_the_same_and_leaves_less_to_read(
    spaces: tuple[ObservationSpace, ObservationSpace],
) -> None:
    usual, steady = spaces
    said_otherwise = {"<player_prev>": "<player>", "<opp_prev>": "<opponent>"}
    battles = [load_battle(path) for path in BATTLE_FILES if "edge" not in str(path)]
    for battle in battles:
        words, numbers = usual.observe_battle(battle.states)
        told, same_numbers = steady.observe_battle(battle.states)
        assert (numbers == same_numbers).all()
        for turn, retold in zip(words.tolist(), told.tolist(), strict=True):
            assert sorted(said_otherwise.get(word, word) for word in turn) == sorted(retold)
    assert set(split_turn(steady)) != set(split_turn(usual))
    assert steady.entities.items() == usual.entities.items()
    read = [sum(subwords_left_to_read(battle, space) for battle in battles) for space in spaces]
    assert read[1] < 0.75 * read[0]  # docs/extending/observations.md says so


def test_a_run_is_trained_on_turns_that_are_phrased_another_way(tmp_path: Path) -> None:
    run_example("custom_phrasing.py", *train_command(tmp_path, "--obs_space", "SteadyFirstSpace"))
    assert Checkpoint.find(tmp_path / "run").read_meta().identity.obs_space == "SteadyFirstSpace"


@pytest.mark.server
def test_an_encoder_of_ones_own_trains_and_plays(tmp_path: Path) -> None:
    swap = ["--gin_override", "MetamonAMAGOExperiment.tstep_encoder_type = @BagOfWordsEncoder"]
    run_example("custom_encoder.py", *train_command(tmp_path, *swap, lacks=("GemmaTstepEncoder",)))
    identity = Checkpoint.find(tmp_path / "run").read_meta().identity
    assert identity.subword_hash == "bag of words"
    play = ["evaluate", "--run_dir", tmp_path / "run", "--opponents", "RandomPlayer", "--format", "gen1ou"]
    results = json.loads(run_example("custom_encoder.py", *play, "--battles", 2, "--json"))
    assert results["pairs"][0]["battles"] == 2


@pytest.mark.server
def test_a_player_of_ones_own_plays_in_several_processes(tmp_path: Path) -> None:
    """130 battles: two processes are worth their beginning, each of which has to know the player."""
    play = ["evaluate", "--players", "StubbornPlayer", "--opponents", "RandomPlayer", "--format", "gen1ou"]
    printed = run_example("custom_player.py", *play, "--battles", 130, "--workers", 2, "--json")
    (pair,) = json.loads(printed)["pairs"]
    assert pair["battles"] == 130
    assert pair["wins"] > 65

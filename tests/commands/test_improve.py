"""`gemma-metamon improve`: steps that are done once each however often it is stopped, and what comes of them."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import pytest
from poke_env.player import RandomPlayer
from support.paths import SCRIPTS
from support.processes import command_line, descendants, eventually, is_running
from support.small_agent import BATTLES, SMALL, TINY, train_command

from gemma_metamon.battle.replays import BattleFileName, find_battles, load_battle
from gemma_metamon.commands import _round_steps, build_parser, main
from gemma_metamon.commands._round_steps import Rounds, count_battles, drop_half_recorded
from gemma_metamon.commands.improve import _begin
from gemma_metamon.errors import GemmaMetamonError
from gemma_metamon.loops.round_results import as_table, shares_of_parents, together
from gemma_metamon.loops.steps import Step, run_command
from gemma_metamon.reports.evaluation import rating_curve
from gemma_metamon.results import schema
from gemma_metamon.results.schema import EvaluationResults
from gemma_metamon.runs.checkpoints import WEIGHTS, Checkpoint, list_checkpoints
from gemma_metamon.showdown.arena.arena import Arena, News
from gemma_metamon.showdown.matches.evaluate import Evaluation
from gemma_metamon.showdown.matches.ratings import rate
from gemma_metamon.showdown.matches.seatings import PairResult
from gemma_metamon.showdown.matches.tallies import Tally
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.showdown.players.registry import seat_name, user_name


def improve_command(out: Path, *extra: str) -> list[str]:
    command = ["improve", "--format", "gen1ou", "--rounds", "2", "--battles_per_round", "3", "--steps_per_round", "2"]
    command += ["--opponents", "RandomPlayer", "--eval_opponents", "RandomPlayer", "--eval_battles", "2"]
    command += ["--parent_battles", "2", "--batch_size_per_gpu", "2", "--max_turns", "10"]
    command += ["--device", "cpu", "--workers", "1"]
    return [*command, "--out", str(out), *extra]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    save_dir = tmp_path_factory.mktemp("runs")
    assert main(train_command(save_dir, "--formats", "gen1ou")) == 0
    return save_dir / "run"


# --- steps ----------------------------------------------------------------------------------------------------------


def test_an_untrained_agent_collects_nothing_before_its_first_training() -> None:
    args = build_parser().parse_args(improve_command(Path("out"), "--model_gin_config", TINY))
    first, second = ([s.name for s in Rounds(args, None).steps() if s.round == number] for number in (1, 2))
    assert first == ["train", "evaluate"]
    assert second == ["collect", "prepare", "train", "evaluate"]


def test_a_battle_counts_as_collected_once_whatever_the_views_of_it(tmp_path: Path) -> None:
    assert count_battles(tmp_path / "none") == 0
    for battle, player, opponent in (("1", "A", "B"), ("1", "B", "A"), ("2", "A", "B")):
        name = BattleFileName(f"gemma-gen1ou-{battle}", None, player, opponent, datetime(2026, 1, 1), player == "A")
        (tmp_path / f"{name}.json.lz4").touch()
        (tmp_path / f".{name}.json.lz4.part").touch()  # of a process that was killed
    assert count_battles(tmp_path) == 2


def touch_battle(folder: Path, battle: str, *sides: tuple[str, str]) -> None:
    for player, opponent in sides:
        name = BattleFileName(f"gemma-gen1ou-{battle}", None, player, opponent, datetime(2026, 1, 1), player < opponent)
        (folder / f"{name}.json.lz4").touch()


@pytest.mark.parametrize(("both_views", "kept"), [(False, {"whole", "other", "past"}), (True, {"whole"})])
def test_a_battle_with_one_view_of_two_is_played_again(both_views: bool, kept: set[str], tmp_path: Path) -> None:
    touch_battle(tmp_path, "whole", ("out1-aa", "out1-bb"), ("out1-bb", "out1-aa"))
    touch_battle(tmp_path, "half", ("out1-aa", "out1-bb"))
    touch_battle(tmp_path, "other", ("out1-aa", "Random-cc"))
    touch_battle(tmp_path, "past", ("out1-aa", "out11-bb"))
    (tmp_path / ".x.json.lz4.part").touch()
    drop_half_recorded(tmp_path, ["out@1"], both_views=both_views)
    left = {BattleFileName.parse(path.name).battle_id.rpartition("-")[2] for path in tmp_path.iterdir()}
    assert left == kept
    drop_half_recorded(tmp_path / "none", ["out@1"], both_views=both_views)


def test_an_experts_battle_with_the_agent_has_both_views(tmp_path: Path) -> None:
    sides = [seat_name(name, "p1") for name in ("out@1", "DuelTrainer", "RandomPlayer")]
    touch_battle(tmp_path, "half", (sides[0], sides[1]))
    touch_battle(tmp_path, "whole", (sides[1], sides[0]), (sides[0], sides[1]))
    touch_battle(tmp_path, "opponent", (sides[1], sides[2]))
    drop_half_recorded(tmp_path, ["out@1", "DuelTrainer"], both_views=False)
    assert count_battles(tmp_path) == 2


def test_of_a_long_name_no_battle_is_taken_for_half_recorded(tmp_path: Path) -> None:
    # Showdown's names end after nine of its characters: it may be against an earlier round, which has no view
    touch_battle(tmp_path, "1", (user_name("self-playing@1"), user_name("self-playing@2")))
    drop_half_recorded(tmp_path, ["self-playing@2"], both_views=False)
    assert count_battles(tmp_path) == 1


@pytest.mark.parametrize(
    ("there", "commands"),
    [
        ([], ["evaluate --players"]),
        (["battles.jsonl"], ["evaluate --players"]),
        (["results.json"], ["report"]),
        (["results.json", "report.html"], []),
    ],
)
def test_an_evaluation_that_was_stopped_is_played_anew_or_only_gets_its_page(
    there: list[str], commands: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "out" / "evaluations" / "round_1"
    folder.mkdir(parents=True)
    done = evaluation(("out@1", "Rival", 6, 4))
    for name in there:  # battles.jsonl and the page are not looked into
        schema.write(folder / name, done)
    ran: list[str] = []

    def run_command(run: object, arguments: list[str], step: Step, out: Path) -> None:
        ran.append(" ".join(arguments))
        if arguments[0] == "evaluate":
            assert not folder.exists()
            folder.mkdir()
            schema.write(folder / "results.json", done)

    monkeypatch.setattr(_round_steps, "run_command", run_command)
    args = build_parser().parse_args(improve_command(tmp_path / "out", "--model_gin_config", TINY))
    Rounds(args, None).work(Step(1, "evaluate"))
    assert [said.startswith(command) for said, command in zip(ran, commands, strict=True)] == [True] * len(commands)


def test_a_round_is_rated_by_more_battles_against_its_parent_and_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    played: list[tuple[list[str], str]] = []

    def run_command(run: object, arguments: list[str], step: Step, folder: Path) -> None:
        if arguments[0] != "evaluate":
            return
        flags = build_parser().parse_args(arguments)
        played.append(([Path(name).name for name in flags.opponents], str(flags.battles)))
        flags.out.mkdir(parents=True)
        schema.write(flags.out / "results.json", evaluation(*[("out@4", name, 6, 4) for name in played[-1][0]]))

    monkeypatch.setattr(_round_steps, "run_command", run_command)
    flags = ["--model_gin_config", TINY, "--rounds", "4", "--parent_battles", "1000", "--eval_battles", "100"]
    args = build_parser().parse_args(improve_command(out, *flags))
    Rounds(args, None).work(Step(4, "evaluate"))
    assert played == [(["out@1", "out@3"], "1000"), (["out@2", "RandomPlayer"], "100")]
    met = [pair.opponent for pair in schema.read(out / "results.json").pairs]
    assert met == ["out@1", "out@3", "out@2", "RandomPlayer"]


def test_a_round_that_was_asked_to_end_is_trained_on_from_where_it_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, commands = tmp_path / "out", []
    monkeypatch.setattr(_round_steps, "run_command", lambda run, arguments, step, folder: commands.append(arguments))
    args = build_parser().parse_args(improve_command(out, "--model_gin_config", TINY, "--rounds", "2", "--anew"))
    (out / "out" / "ckpts" / "epoch_1").mkdir(parents=True)
    Rounds(args, None).work(Step(2, "train"))
    (out / "out" / "ckpts" / "epoch_1_update_70").mkdir()
    Rounds(args, None).work(Step(2, "train"))
    anew, gone_on = (build_parser().parse_args(arguments) for arguments in commands)
    assert (anew.ckpt, anew.anew, anew.resume) == (1, True, None)
    assert (gone_on.ckpt, gone_on.anew, gone_on.resume) == (None, False, "auto")


# --- the folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["battles", "stores", "evaluations"])
def test_an_agent_is_not_called_as_a_folder_of_its_battles(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(improve_command(tmp_path / name, "--model_gin_config", TINY)) == 1
    assert f"no agent can be called '{name}'; choose another name" in capsys.readouterr().err


def test_the_root_of_all_folders_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(improve_command(Path("/"), "--model_gin_config", TINY)) == 1
    assert "--out / has no name to call the agents by" in capsys.readouterr().err


def test_somebody_elses_run_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "out" / "out" / "ckpts" / "epoch_3"
    run.mkdir(parents=True)
    assert main(improve_command(tmp_path / "out", "--model_gin_config", TINY)) == 1
    assert "out/out is a run that is no part of this; choose another --out" in capsys.readouterr().err
    assert run.is_dir()


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "nothing to begin with: give --run_dir of a trained agent, or --model_gin_config"),
        (["--run_dir", "nowhere"], "nowhere: no such folder"),
        (["--run_dir", "nowhere", "--train_gin_config", "il.gin"], "--train_gin_config needs --model_gin_config"),
        (["--model_gin_config", TINY, "--opponents", "Nobody"], "no player is called 'Nobody'"),
        (["--model_gin_config", TINY, "--eval_opponents", "there@3"], "there: no such folder"),
        (["--model_gin_config", TINY, "--experts", "Nobody"], "no player is called 'Nobody'"),
        (["--model_gin_config", TINY, "--label_by", "there@3"], "there: no such folder"),
        (["--model_gin_config", TINY, "--record_opponents", "DuelTrainer"], "DuelTrainer is none of --opponents"),
        (["--model_gin_config", TINY, "--format", "gen7ou"], "no team for format 'gen7ou'"),
        (["--model_gin_config", TINY, "--parsed_replay_dir", "no/battles"], "no such folder: no/battles"),
        (["--model_gin_config", TINY, "--collected_share", "2"], "--collected_share 2.0; it is a share"),
        (["--model_gin_config", TINY, "--rounds", "0"], "--rounds 0; it must be at least 1"),
        (["--model_gin_config", TINY, "--past_rounds", "-1"], "--past_rounds -1; it must not be negative"),
        (["--model_gin_config", TINY, "--seed", "-1"], "--seed -1; it must be within 0 to 4294967295"),
        (["--model_gin_config", TINY, "--device", "gameboy"], "device 'gameboy' cannot be used"),
    ],
)
def test_bad_input_gets_one_sentence_and_no_folder(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(improve_command(tmp_path / "out", *arguments)) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert complaint in said[-1]
    assert not (tmp_path / "out").exists()


def test_an_opponent_with_the_name_of_our_own_agents_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old" / "out" / "ckpts" / "epoch_1").mkdir(parents=True)
    rival = str(tmp_path / "old" / "out") + "@1"
    flags = ["--model_gin_config", TINY, "--eval_opponents", rival]
    assert main(improve_command(tmp_path / "out", *flags)) == 1
    assert "would both be called 'out'; choose another name for --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--obs_space", "DefaultObservationSpace"], "--obs_space is for a new agent; leave it out"),
        (["--gin_override", "MultiTaskAgent.use_multigamma = False"], "popart._t is [7, 1], not [1, 1]"),
        (["--gin_override", "GemmaTstepEncoder.phrasing = 'raw'"], "phrasing 'natural', but this run uses 'raw'"),
        (["--gin_override", "MultiTaskAgent.gama = 0.9"], "doesn't have a parameter named 'gama'"),
    ],
)
def test_what_a_run_cannot_go_on_with_is_refused_before_a_battle(
    arguments: list[str], complaint: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(improve_command(tmp_path / "out", "--run_dir", str(trained), *arguments)) == 1
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- results -------------------------------------------------------------------------------------------------------


def evaluation(*results: tuple[str, str, int, int]) -> EvaluationResults:
    pairs = []
    for player, opponent, wins, losses in results:
        sides = [Contestant(name, RandomPlayer) for name in (player, opponent)]
        tallies = [Tally(wins=wins, losses=losses, turns=20), Tally(wins=losses, losses=wins, turns=20)]
        pairs.append(PairResult(player=sides[0], opponent=sides[1], players=tallies[0], opponents=tallies[1]))
    return Evaluation(battle_format="gen1ou", battles_per_pair=10, seed=0, pairs=pairs).results()


def test_all_rounds_together_are_rated_by_all_of_their_battles() -> None:
    first = evaluation(("us@0", "Rival", 2, 8))
    second = evaluation(("us@1", "us@0", 7, 3), ("us@1", "Rival", 6, 4))
    results = together("us", [first, second])
    rows = {row.name: row for row in results.contestants}
    assert (rows["Rival"].battles, rows["Rival"].wins, rows["Rival"].mean_turns) == (20, 12, 2.0)
    ratings = rate([("us@0", "Rival", 2, 8, 0), ("us@1", "us@0", 7, 3, 0), ("us@1", "Rival", 6, 4, 0)])
    elos = {row.name: row.rating.elo for row in rows.values() if row.rating is not None}
    assert elos == {r.name: r.elo for r in ratings}
    assert len(results.pairs) == 3
    line = rating_curve(results).axes[0].lines[0]
    assert line.get_xdata().tolist() == [0, 1]
    assert line.get_ydata().tolist() == [elos["us@0"], elos["us@1"]]


def test_the_table_says_how_often_each_round_beat_its_parent_and_the_last_the_first() -> None:
    rounds = [
        evaluation(("us@0", "Rival", 2, 8)),
        evaluation(("us@1", "us@0", 6, 4)),
        evaluation(("us@2", "us@0", 9, 1), ("us@2", "us@1", 7, 3)),
    ]
    results = together("us", rounds)
    assert {name: pair.win_rate for name, pair in shares_of_parents(results).items()} == {
        "us@1": 0.6,
        "us@2": 0.7,
        "us@2 / us@0": 0.9,
    }
    assert [line.split()[:-5] for line in as_table(results).splitlines()[-3:]] == [
        ["us@1"],
        ["us@2"],
        ["us@2", "/", "us@0"],
    ]


def test_the_table_says_how_often_each_round_won() -> None:
    table = as_table(together("us", [evaluation(("us@0", "Rival", 2, 8)), evaluation(("us@1", "Rival", 6, 4))]))
    assert [line.split()[-1] for line in table.splitlines() if line.startswith("us@")] == ["20.0%", "60.0%"]


# --- the whole of it -----------------------------------------------------------------------------------------------


def finished(out: Path) -> list[tuple[int, str]]:
    path = out / "improve.json"
    return [(e["round"], e["step"]) for e in json.loads(path.read_text())["finished"]] if path.exists() else []


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_experts_play_and_label_and_each_round_begins_anew(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = ["--run_dir", str(trained), "--parsed_replay_dir", str(BATTLES), "--anew"]
    flags += ["--experts", "TypeTrainer", "--label_by", "DuelTrainer", "--record_opponents", "RandomPlayer"]
    assert main(improve_command(out, *flags, "--battles_per_round", "8")) == 0
    views = find_battles(out / "battles" / "round_2", ["gen1ou"])
    names = {BattleFileName.parse(path.name).player.partition("-")[0] for path in views}
    assert {"out1", "TypeTrainer", "Random"} <= names
    for path in views:
        labels = load_battle(path).labels
        assert labels is not None
        assert max(labels) >= 0
    assert [Checkpoint(out / "out", epoch).read_meta().anew_at for epoch in (0, 1, 2)] == [0, 0, 2]
    metrics = [json.loads(line) for line in (out / "out" / "metrics.jsonl").read_text().splitlines()]
    assert any("label_accuracy" in row for row in metrics)
    assert capsys.readouterr().out.splitlines()[-1].startswith("out@2 / out@0")


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_killed_between_steps_it_goes_on_to_the_same_end(trained: Path, tmp_path: Path) -> None:
    """After three of its ten; scripts/kill_improve.py kills at any moment."""

    def to_kill_after(out: Path) -> list[tuple[int, str]]:
        return [step for step in finished(out) if step in ((0, "evaluate"), (2, "collect"), (2, "train"))]

    out = tmp_path / "out"
    flags = ["--run_dir", str(trained), "--parsed_replay_dir", str(BATTLES)]
    command = [sys.executable, "-m", "gemma_metamon", *improve_command(out, *flags)]
    kills = 0
    while True:
        before = to_kill_after(out)
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
            while process.poll() is None and to_kill_after(out) == before:
                time.sleep(0.02)
            if process.poll() is None:
                own = descendants(process.pid)
                process.send_signal(signal.SIGKILL)
                kills += 1
            returned = process.wait(60)
        said = (tmp_path / "log").read_text()
        assert returned in (0, -signal.SIGKILL), said[-3000:]
        if returned == 0:
            break
        deadline = time.monotonic() + 20
        while any(map(is_running, own)):
            assert time.monotonic() < deadline, "a step goes on without us"
            time.sleep(0.05)
    assert kills == 3
    each = ["collect", "prepare", "train", "evaluate"]
    assert finished(out) == [(0, "begin"), (0, "evaluate"), *[(number, name) for number in (1, 2) for name in each]]
    assert list_checkpoints(out / "out") == [0, 1, 2]
    assert (Checkpoint(out / "out", 0).folder / WEIGHTS).read_bytes() == (
        Checkpoint(trained, 1).folder / WEIGHTS
    ).read_bytes()
    for number in (1, 2):
        views = find_battles(out / "battles" / f"round_{number}", ["gen1ou"])
        assert len({BattleFileName.parse(path.name).battle_id for path in views}) == 3
    results = json.loads((out / "results.json").read_text())
    met = [(pair["player"], pair["opponent"], pair["battles"]) for pair in results["pairs"]]
    assert met == [
        ("out@0", "RandomPlayer", 2),
        ("out@1", "out@0", 2),
        ("out@1", "RandomPlayer", 2),
        ("out@2", "out@0", 2),
        ("out@2", "out@1", 2),
        ("out@2", "RandomPlayer", 2),
    ]
    assert all(row["rating"] is not None for row in results["contestants"])
    assert main(["report", str(out)]) == 0  # it can be made again
    assert "Elo of the agent after each round" in (out / "report.html").read_text()
    assert (out / "rating_curve.png").stat().st_size > 1000
    stores = f"--custom_replay_dir {out}/stores/round_1 {out}/stores/round_2"
    assert stores in said
    pool = f"--players {out}/out@1 --opponents {out}/out@1 {out}/out@0 RandomPlayer"
    assert pool in said


def main_over_a_faulty_simulator(arguments: Sequence[str]) -> int:
    """The command line in a step's process, whose simulator gets a signal when it is listened to for the n-th time.

    FAULTS is "9:9,15:9": the n and the signal of each.
    """
    faults = dict(map(int, fault.split(":")) for fault in os.environ["FAULTS"].split(","))
    settle, n_calls = Arena.settle, itertools.count(1)

    def failing(arena: Arena, battles: Iterable[str]) -> list[News]:
        if (how := faults.get(next(n_calls))) is not None:
            os.kill(arena.process_ids[0], how)
        return settle(arena, battles)

    Arena.settle = failing  # type: ignore[method-assign]
    return main(arguments)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_simulator_that_dies_twice_ends_a_round_in_a_sentence_and_one_that_hangs_costs_no_battle(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = build_parser().parse_args(improve_command(out, "--run_dir", str(trained), "--timeout_s", "10"))
    rounds = Rounds(args, _begin(args))
    rounds._copy_agent()
    before = descendants(os.getpid())
    run: list[str] = []

    def run_faulty(main: object, arguments: list[str], step: Step, folder: Path) -> None:
        run.append(arguments[0])
        run_command(main_over_a_faulty_simulator, arguments, step, folder)

    monkeypatch.setattr(_round_steps, "run_command", run_faulty)
    monkeypatch.setenv("FAULTS", f"9:{int(signal.SIGKILL)},15:{int(signal.SIGKILL)}")
    with pytest.raises(
        GemmaMetamonError, match=r"round 1: collect ended with 1, see above; run the same command again"
    ):
        rounds.work(Step(1, "collect"))
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "for the second time; it may be that this machine has too little memory" in said
    there = count_battles(out / "battles" / "round_1" / "gen1ou")
    assert there < 3
    monkeypatch.setenv("FAULTS", f"9:{int(signal.SIGSTOP)}")
    rounds.work(Step(1, "collect"))
    assert "said nothing for 10 seconds and was ended by signal 9; it begins again" in capfd.readouterr().err
    assert count_battles(out / "battles" / "round_1" / "gen1ou") == 3
    assert run == ["collect", "collect"]
    assert eventually(
        lambda: not [pid for pid in descendants(os.getpid()) if pid not in before and "worker.js" in command_line(pid)]
    )


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(trained: Path, tmp_path: Path) -> None:
    script = SCRIPTS / "kill_improve.py"
    command = [sys.executable, str(script), "--kills", "3", "--rounds", "1", "--out", str(tmp_path / "kills")]
    done = subprocess.run([*command, "--run_dir", str(trained)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["kills"], result["complaints"]) == (3, 0)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_an_untrained_agent_is_trained_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model_gin_config", TINY, "--train_gin_config", "binary_rl.gin", "--parsed_replay_dir", str(BATTLES)]
    flags += [text for override in SMALL for text in ("--gin_override", override)]
    assert main(improve_command(tmp_path / "new", *flags, "--rounds", "1", "--json")) == 0
    assert finished(tmp_path / "new") == [(0, "begin"), (1, "train"), (1, "evaluate")]
    results = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["name"] for row in results["contestants"]] == ["new@1", "RandomPlayer"]

"""Checkpoints that decide together: an ensemble of one is its member, members see battles each in their own way, and
what is equal in them is computed once."""

import asyncio
import copy
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.small_agent import train_command

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.battle.state import BattleState
from gemma_metamon.commands import main
from gemma_metamon.commands._players import contestants, find_players
from gemma_metamon.errors import CheckpointMismatchError, ConfigError, DataError, MissingFileError
from gemma_metamon.nets.agents.acting import share_texts
from gemma_metamon.runs import loading
from gemma_metamon.runs.checkpoints import META, WEIGHTS, Checkpoint
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.showdown.players.ensembles import EnsemblePolicy, Member

FROZEN = ["--gin_override", "GemmaTstepEncoder.use_lora = False"]
FROZEN += ["--gin_override", "GemmaTstepEncoder.freeze_base_model = True"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run`; `other`, which is shown less and has 9 actions; `frozen`, whose Gemma never changes."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(train_command(folder)) == 0
    spaces = ["--obs_space", "DefaultObservationSpace", "--action_space", "MinimalActionSpace"]
    assert main(train_command(folder, *spaces, run_name="other")) == 0
    assert main(train_command(folder, *FROZEN, run_name="frozen")) == 0
    return folder


def found(*texts: str, sample: bool = False, seed: int = 0) -> list[Contestant]:
    options = {"device": "cpu", "temperature": 1.0, "max_battles": 4}
    return contestants(find_players(texts), sample=sample, seed=seed, **options)


def policy(text: str, *, sample: bool = False, seed: int = 0) -> EnsemblePolicy:
    (contestant,) = found(text, sample=sample, seed=seed)
    assert contestant.policy is not None
    return contestant.policy


def play(deciding: EnsemblePolicy, battle_file: Path, *, battles: int = 3) -> list[list[int]]:
    """The same recorded states put to several battles at once, one a step behind the other, beyond the memory of 12."""
    states = load_battle(battle_file).states[:15]

    async def together() -> list[list[int]]:
        sessions = [deciding.open_session() for _ in range(battles)]
        actions: list[list[int]] = [[] for _ in sessions]
        for t in range(len(states) + battles):
            acting = [i for i in range(battles) if 0 <= t - i < len(states)]
            chosen = await asyncio.gather(
                *(deciding.decide(sessions[i], states[t - i], legal_in(states[t - i], t - i)) for i in acting)
            )
            for i, action in zip(acting, chosen, strict=True):
                actions[i].append(action)
        for session in sessions:
            deciding.close_session(session)
        return actions

    return asyncio.run(together())


def legal_in(state: BattleState, t: int) -> np.ndarray:
    """Some actions, different ones from state to state; now and then only those that nine actions do not have."""
    legal = np.random.default_rng(t).random(13) < 0.6
    legal[3] = True
    return np.arange(13) >= 9 if t % 5 == 4 else legal


@pytest.mark.parametrize(
    ("form", "sample"),
    [
        *[(form, sample) for form in ("ensemble({})", "ensemble(vote: {}*0.3)") for sample in (False, True)],
        ("ensemble({0}, {0})", False),  # a mean of two equal ones is rounded before it is drawn from
    ],
)
def test_an_ensemble_of_one_chooses_as_its_member(runs: Path, battle_file: Path, form: str, sample: bool) -> None:
    for member in (f"{runs}/run@1", f"{runs}/run@T0.5", f"{runs}/other@T0"):
        alone = play(policy(member, sample=sample), battle_file)
        assert play(policy(form.format(member), sample=sample), battle_file) == alone
        assert len({tuple(actions) for actions in alone}) == 1 or sample


@pytest.mark.slow
def test_every_choice_is_legal_and_one_of_what_members_have(runs: Path, battle_file: Path) -> None:
    states = load_battle(battle_file).states[:15]
    members = f"{runs}/run@0, {runs}/run@1@T3, {runs}/other*2, {runs}/other@T0.2"
    for text in (f"ensemble({members})", f"ensemble(vote: {members})"):
        for sample in (False, True):
            for actions in play(policy(text, sample=sample), battle_file):
                assert all(legal_in(state, t)[a] for t, (state, a) in enumerate(zip(states, actions, strict=True)))


@pytest.mark.slow
def test_the_order_of_members_does_not_matter(runs: Path, battle_file: Path) -> None:
    members = [f"{runs}/run@0*2", f"{runs}/other", f"{runs}/run@1@T0.5", f"{runs}/run@0@T4"]
    for mode in ("", "vote: "):
        one, two = (policy(f"ensemble({mode}{', '.join(order)})") for order in (members, members[::-1]))
        assert play(one, battle_file) == play(two, battle_file)


def test_the_mean_is_that_of_what_members_say_alone(runs: Path, battle_file: Path) -> None:
    """Members follow the ensemble's choices: each is fed with what was played, not with what it would have done."""
    ensemble = policy(f"ensemble({runs}/run@1*3, {runs}/other@T2)")
    heard: dict[str, list[torch.Tensor]] = {"run": [], "other": []}
    fed: dict[str, list[torch.Tensor]] = {"run": [], "other": []}
    for name, each in zip(heard, ensemble._agents, strict=True):
        listen(each.agent, heard[name], fed[name])
    (actions,) = play(ensemble, battle_file, battles=1)
    for t, action in enumerate(actions):
        if t % 5 == 4:
            continue
        mine, others = heard["run"][t][0], torch.zeros(13)
        others[:9] = heard["other"][t][0]
        assert int((0.75 * mine + 0.25 * others).argmax()) == action
        if t:
            assert fed["run"][t][0, 0, 1:].argmax() == actions[t - 1]
            assert fed["other"][t][0, 0, 1:].argmax() == (actions[t - 1] - 9 if actions[t - 1] > 8 else actions[t - 1])


def listen(agent: Any, heard: list[torch.Tensor], fed: list[torch.Tensor]) -> None:
    act = agent.act

    def noting(obs: Any, rl2s: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        actions, probs = act(obs, rl2s, *arguments, **options)
        heard.append(probs)
        fed.append(rl2s)
        return actions, probs

    agent.act = noting


def test_each_checkpoint_takes_one_step_for_all_battles_and_temperatures(runs: Path, battle_file: Path) -> None:
    ensemble = policy(f"ensemble({runs}/run@1, {runs}/run@1@T2, {runs}/run@1@T0, {runs}/other)")
    heard: list[list[torch.Tensor]] = [[], []]
    for each, notes in zip(ensemble._agents, heard, strict=True):
        listen(each.agent, notes, [])
    actions = play(ensemble, battle_file)
    assert ensemble.decisions == sum(map(len, actions)) == 45
    # three battles, each a step behind the other: 17 rounds
    assert [sorted({len(probs) for probs in notes}) for notes in heard] == [[1, 2, 3], [1, 2, 3]]
    assert len(heard[0]) == len(heard[1]) == 17


def test_checkpoints_over_one_frozen_gemma_read_each_text_once(runs: Path, battle_file: Path) -> None:
    both = policy(f"ensemble({runs}/frozen@0, {runs}/frozen@1)")
    first, second = (each.agent.tstep_encoder for each in both._agents)
    assert first.backbone is second.backbone
    together = play(both, battle_file)
    alone = policy(f"{runs}/frozen@0")
    play(alone, battle_file)
    assert first.reader.cache.misses == alone.members[0].agent.tstep_encoder.reader.cache.misses
    assert together == play(unshared(runs), battle_file)


def unshared(runs: Path) -> EnsemblePolicy:
    members = []
    for epoch in (0, 1):
        playable = loading.load_for_play(Checkpoint.find(runs / "frozen", epoch), "cpu")
        members.append(Member(agent=playable.agent, view=playable.view))
    return EnsemblePolicy(members, max_battles=4)


def test_another_gemma_is_not_shared(runs: Path) -> None:
    agents = [each.agent for each in policy(f"ensemble({runs}/run@0, {runs}/run@1)")._agents]
    assert agents[0].tstep_encoder.backbone is not agents[1].tstep_encoder.backbone
    copies = [copy.deepcopy(agents[0]) for _ in range(2)]
    copies[1].tstep_encoder.subword_hash = "of other words"
    share_texts(copies)
    assert copies[0].tstep_encoder.backbone is not copies[1].tstep_encoder.backbone
    copies[1].tstep_encoder.subword_hash = copies[0].tstep_encoder.subword_hash
    share_texts(copies)
    assert copies[0].tstep_encoder.backbone is copies[1].tstep_encoder.backbone


def test_a_member_with_a_comma_in_its_name_is_named_between_quotes(runs: Path) -> None:
    shutil.copytree(runs / "run", runs / "c, it's")
    (one,) = found(f"ensemble('{runs}/c, it''s'@1, {runs}/run)")
    assert one.name == "ensemble('c, it''s'@1, run@1)"


def test_members_are_named_in_order_with_what_was_written(runs: Path) -> None:
    text = f"ensemble(vote: {runs}/run@0@T0.5*2, {runs}/other, {runs}/run)"
    one, two, three = found(text, f"{runs}/run@1@T2", f"{runs}/run")
    assert one.name == "ensemble(vote: run@0@T0.5*2, other@1, run@1)"
    assert (two.name, three.name) == ("run@1@T2", "run@1")
    assert one.policy is not None
    assert dataclasses.asdict(one.policy.row()) == {
        "sampled": False,
        "combined": "vote",
        "members": [
            {"name": "run@0", "temperature": 0.5, "weight": 2.0},
            {"name": "other@1", "temperature": 1.0, "weight": 1.0},
            {"name": "run@1", "temperature": 1.0, "weight": 1.0},
        ],
        "too_long": 0,
    }
    assert three.policy is not None
    assert dataclasses.asdict(three.policy.row()) == {
        "sampled": False,
        "combined": None,
        "members": [{"name": "run@1", "temperature": 1.0, "weight": 1.0}],
        "too_long": 0,
    }


def test_a_temperature_without_draws_is_said_to_do_nothing(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    found(f"{runs}/run@T0.5")
    assert "run@1@T0.5 takes its most probable actions, whatever its temperature" in caplog.text
    caplog.clear()
    found(f"{runs}/run@T0.5", sample=True)
    found(f"ensemble({runs}/run@T0.5, {runs}/other)")
    assert not caplog.text


@pytest.mark.parametrize(
    ("member", "error", "complaint"),
    [
        ("{}/nowhere", MissingFileError, "{}/nowhere: no such folder"),
        ("{}/run@7", MissingFileError, "{}/run has no checkpoint 7; it has 0, 1"),
        ("RandomPlayer", ConfigError, "is a scripted player, which has no probabilities to combine"),
        ("RandomPlyer", ConfigError, "nor is 'RandomPlyer' the folder of a run"),
        ("{}/run@Tx", ConfigError, "'x' is no temperature"),
    ],
)
def test_a_wrong_member_is_named_before_anything_is_loaded(
    runs: Path, member: str, error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error) as caught:
        find_players([f"ensemble({runs}/run, {member.format(runs)})"])
    assert complaint.format(runs) in str(caught.value)


@pytest.mark.parametrize(("name", "error"), [(META, DataError), (WEIGHTS, DataError)])
def test_a_damaged_member_is_found_before_the_first_is_loaded(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception]
) -> None:
    folder = copied(runs, tmp_path)
    (folder / name).write_bytes((folder / name).read_bytes()[:300])
    monkeypatch.setattr(loading, "load_agent", None)
    with pytest.raises(error, match="bad"):
        found(f"ensemble({runs}/run, {tmp_path}/bad)")


def test_a_member_that_would_be_read_otherwise_is_found_too(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(runs, tmp_path)
    meta = json.loads((folder / META).read_text())
    meta["identity"]["subword_hash"] = "of other words"
    (folder / META).write_text(json.dumps(meta))
    monkeypatch.setattr(loading, "load_agent", None)
    with pytest.raises(CheckpointMismatchError, match="bad"):
        found(f"ensemble({runs}/run, {tmp_path}/bad)")


def copied(runs: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "bad" / "ckpts" / "epoch_1"
    folder.mkdir(parents=True)
    for name in (META, WEIGHTS):
        (folder / name).write_bytes((Checkpoint(runs / "run", 1).folder / name).read_bytes())
    return folder


# --- the commands --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.server
def test_an_ensemble_is_evaluated_and_told_of_in_results_and_report(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (runs / "a, (b)").symlink_to(runs / "run")
    text = f"ensemble('{runs}/a, (b)'@0, {runs}/other@T0.8, {runs}/frozen)"
    out = tmp_path / "out"
    command = ["evaluate", "--players", text, f"{runs}/run@1@T0.8", "--opponents", "RandomPlayer", "--battles", "2"]
    assert main([*command, "--sample", "--ckpt", "1", "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    ensemble, alone, _ = report["contestants"]
    name = "ensemble(run@0, other@1@T0.8, frozen@1)"
    assert (ensemble["name"], ensemble["kind"], alone["name"], alone["kind"]) == (
        name,
        "ensemble",
        "run@1@T0.8",
        "checkpoint",
    )
    assert [member["temperature"] for member in ensemble["policy"]["members"]] == [1.0, 0.8, 1.0]
    assert alone["policy"]["sampled"] is True
    assert ensemble["battles"] == 2
    assert report["unknown_words"] == {}
    assert json.loads((out / "results.json").read_text())["contestants"][0]["policy"] == ensemble["policy"]
    page = (out / "report.html").read_text()
    assert f'data-ensemble="{name}"' in page
    assert "other@1 at temperature 0.8, weight 1" in " ".join(page.split())


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.long
def test_an_ensemble_plays_on_a_ladder_and_is_collected(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(
        "gemma_metamon.showdown.simulator.server.background_servers", list
    )  # one of the developer's own
    text = f"ensemble(vote: {runs}/run@0, {runs}/run@1@T0.8)"
    command = ["ladder", "--server", "local", "--username", "Anna", "--players", text, "--battles", "1", "--json"]
    assert main([*command, "--sparring", "RandomPlayer", "--out", str(tmp_path / "ladder")]) == 0
    (row,) = (tmp_path / "ladder" / "results.jsonl").read_text().splitlines()
    assert json.loads(row)["player"] == "ensemble(vote: run@0, run@1@T0.8)"
    command = ["collect", "--format", "gen1ou", "--battles", "2", "--players", text, "--opponents", f"{runs}/run@1@T0"]
    assert main([*command, "--out", str(tmp_path / "battles"), "--json"]) == 0
    assert "ensemble(vote: run@0, run@1@T0.8)" in capsys.readouterr().out


def test_an_ensemble_alone_cannot_be_watched(runs: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate", "--players", f"ensemble({runs}/run, {runs}/other)", "--watch", "w"]) == 1
    assert "--watch shows what a checkpoint thinks, but nobody here is one that plays alone" in capsys.readouterr().err

"""Inside metamon as it is installed, on each of its spaces: training, and the same vectors as here of a battle."""

import functools
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import metamon_runs
from support.metamon_runs import derive, policy_file, run_here, run_program, start_training, train_flags
from support.paths import BATTLE_FILES

from gemma_metamon.battle.observations import OBSERVATION_SPACES
from gemma_metamon.battle.replays import load_battle
from gemma_metamon.configs.files import find_config
from gemma_metamon.explain.follow import Follower, follow_recorded
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_agent
from gemma_metamon.upstream.evaluation import config_for_metamon
from gemma_metamon.upstream.interchange import DESCRIPTION

env, pytestmark = metamon_runs.env, metamon_runs.pytestmark
CONFIGS = {"turn": "gemma_tiny_multitaskagent.gin", "entity": "gemma_tiny_entity.gin"}
CASES = [(space, "entity") for space in OBSERVATION_SPACES]
CASES += [("GroupedObservationSpace", "turn"), ("PAC-OpponentMoveObservationSpace", "turn")]
BATTLE = next(path for path in BATTLE_FILES if path.match("battles/gen9ou/metamon-gen9ou-0355040679_*"))


@functools.cache
def spaces_there(cache: str) -> set[str]:
    program = "from metamon.interface import get_observation_space_names as names; print(*names())"
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env={**os.environ, "METAMON_CACHE_DIR": cache}, capture_output=True, text=True, timeout=120, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(("space", "granularity"), CASES)
def test_a_run_on_a_space_trains_there_and_sees_here_what_it_saw_there(
    space: str,
    granularity: str,
    env: dict[str, str],
    tmp_path: Path,
) -> None:
    if space not in spaces_there(env["METAMON_CACHE_DIR"]):
        pytest.skip(f"the metamon that is installed has no {space}")
    model = str(find_config(CONFIGS[granularity], "models").resolve())
    flags = train_flags(tmp_path, model, "--obs_space", space, epochs=3)
    start_training(flags, env, tmp_path / "output.txt")
    # which of the spaces of one width it is: only metamon's own train script says so by itself
    named = f"GemmaTstepEncoder.observation_space = {space!r}"
    short = [*flags, "--model_gin_config", derive(CONFIGS[granularity], [named], tmp_path / "named.gin")]
    trained = run_program("train", tmp_path / "short", env, flags=short, steps_per_epoch=2)
    assert trained["steps"] == [0, 6]
    assert all(math.isfinite(loss) for pair in trained["losses"] for loss in pair)

    policy = policy_file(tmp_path, 2)
    run_here("import", "--from", "amago", str(policy), "--save_dir", str(tmp_path / "here"), "--run_name", "run")
    agent, meta = load_agent(Checkpoint.find(tmp_path / "here" / "run"), "cpu")
    assert (meta.identity.obs_space, meta.identity.granularity) == (space, granularity)
    battle, view = load_battle(BATTLE), meta.view()
    words, numbers = view.obs_space.observe_battle(battle.states)
    obs = {"text_tokens": torch.from_numpy(view.vocabulary.encode(words)), "numbers": torch.from_numpy(numbers)}
    encoder: Any = agent.tstep_encoder
    with torch.no_grad():
        ours = encoder(
            {name: value[None] for name, value in obs.items()}, torch.zeros(1, len(words), 1 + view.action_space.n)
        )

    config = config_for_metamon(meta.config)
    (tmp_path / "run.gin").write_text(config if named in config else f"{config}\n{named}\n")
    theirs = run_program(
        "encode",
        tmp_path / "encode",
        env,
        config=str(tmp_path / "run.gin"),
        policy=str(policy),
        battle=str(BATTLE),
        words=view.vocabulary.words,
        obs_space=space,
        action_space=meta.identity.action_space,
    )
    torch.testing.assert_close(ours[0], torch.tensor(theirs), rtol=1e-4, atol=1e-5)
    assert (ours[0, 0] - ours[0, 1]).abs().max() > 0.01
    assert len([*follow_recorded(Follower(agent, view), battle)]) == len(battle.states) - 1
    assert (tmp_path / "run" / "ckpts" / DESCRIPTION).is_file()

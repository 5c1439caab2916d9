"""The command line: help, either spelling of flags, one sentence for an error, `inspect` and `configs`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.paths import observation_golden
from support.small_agent import TINY

from gemma_metamon.commands import COMMANDS, build_parser, main, with_underscores
from gemma_metamon.errors import GemmaMetamonError
from gemma_metamon.text.vocabulary import Vocabulary


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main([command, "--help"])
    assert exit_status.value.code == 0
    assert "example" in capsys.readouterr().out


def test_flags_may_be_spelled_either_way() -> None:
    spelled = with_underscores(["train", "--run-name", "a-b", "--save-dir=my-runs", "-h"])
    assert spelled == ["train", "--run_name", "a-b", "--save_dir=my-runs", "-h"]


def test_metamons_own_train_command_line_parses() -> None:
    command = """
        train --run_name r --model_gin_config m.gin --train_gin_config t.gin --save_dir d --parsed_replay_dir p
        --custom_replay_dir c --custom_replay_sample_weight 0.5 --formats gen1ou gen9ou --obs_space O
        --action_space A --reward_function R --tokenizer DefaultObservationSpace-v1 --batch_size_per_gpu 2
        --grad_accum 4 --epochs 3 --ckpt 2 --eval_gens 1 9 --dloader_workers 2 --async_env_mp_context fork --log
    """
    args = build_parser().parse_args(with_underscores(command.split()))
    assert (args.formats, args.grad_accum, args.eval_gens) == (["gen1ou", "gen9ou"], 4, [1, 9])


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gemma_metamon", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("gemma-metamon ")


def test_a_failure_is_one_sentence_and_debug_gives_the_traceback(capsys: pytest.CaptureFixture) -> None:
    assert main(["inspect", "nowhere.json"]) == 1
    assert capsys.readouterr().err == "gemma-metamon inspect: no battle file nowhere.json\n"
    with pytest.raises(GemmaMetamonError):
        main(["--debug", "inspect", "nowhere.json"])


def test_a_reader_that_has_had_enough_is_no_error(battle_file: Path) -> None:
    command = f"{sys.executable} -m gemma_metamon inspect '{battle_file}' | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout == "== timestep 0\n"
    assert done.stderr == ""


def test_inspect_json_holds_what_the_agent_sees(battle_file: Path, capsys: pytest.CaptureFixture) -> None:
    space = ["--obs_space", "TeamPreviewObservationSpace", "--phrasing", "raw"]
    assert main(["inspect", str(battle_file), *space, "--action_space", "MinimalActionSpace", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    golden = np.load(observation_golden(battle_file))
    assert list(shown) == ["words", "text", "numbers", "rewards", "chosen", "legal", "missing"]
    assert [" ".join(words) for words in shown["words"]] == golden["TeamPreviewObservationSpace/text"].tolist()
    known = set(Vocabulary.default().words)
    assert shown["text"] == [" ".join(w if w in known else "unknown" for w in words) for words in shown["words"]]
    np.testing.assert_array_equal(np.array(shown["numbers"], np.float32), golden["TeamPreviewObservationSpace/numbers"])
    np.testing.assert_array_equal(np.array(shown["rewards"], np.float32), golden["reward/DefaultShapedReward"])
    for name in ("chosen", "legal", "missing"):
        np.testing.assert_array_equal(shown[name], golden[f"MinimalActionSpace/{name}"])


def test_inspect_prints_every_timestep_for_people(battle_file: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["inspect", str(battle_file)]) == 0
    out = capsys.readouterr().out
    timesteps = len(np.load(observation_golden(battle_file))["dones"]) + 1
    assert out.count("== timestep ") == out.count("\ntext ") == timesteps
    assert out.count("\nreward ") == timesteps - 1
    assert "Gen 9 OU" in out


def test_configs_list_describes_every_config(capsys: pytest.CaptureFixture) -> None:
    assert main(["configs", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert set(listed) == {"models", "training"}
    assert all(description for described in listed.values() for description in described.values())
    assert main(["configs", "list"]) == 0
    assert TINY in capsys.readouterr().out


def test_configs_show_gives_the_flagships_architecture(capsys: pytest.CaptureFixture) -> None:
    command = ["configs", "show", "gemma_synthetic_multitaskagent.gin", "--train_gin_config", "binary_rl.gin", "--json"]
    assert main(command) == 0
    shown = json.loads(capsys.readouterr().out)
    architecture = shown["architecture"]
    parameters = architecture.pop("parameters")
    assert architecture == {
        "text_dim": 2688,
        "numerical_dim": 256,
        "timestep_dim": 2944,
        "trajectory_dim": 1280,
        "trajectory_layers": 9,
        "critics": 6,
        "output_bins": 96,
        "min_return": -1100,
        "max_return": 1100,
        "use_symlog": False,
        "actions": 13,
        "discounts": [0.1, 0.9, 0.95, 0.97, 0.99, 0.995, 0.999],
    }
    parts = [part for part in parameters if part != "whole"]
    assert sum(parameters[part]["total"] for part in parts) == parameters["whole"]["total"]
    assert parameters["target_critics"] == {"total": parameters["critics"]["total"], "trainable": 0}
    assert shown["bindings"]["MultiTaskAgent.num_critics"] == "6"
    assert main([*command, "--gin_override", "GemmaTstepEncoder.trim_vocabulary = False"]) == 0
    untrimmed = json.loads(capsys.readouterr().out)["architecture"]["parameters"]["tstep_encoder"]
    assert untrimmed["trainable"] == parameters["tstep_encoder"]["trainable"]
    assert untrimmed["total"] > parameters["tstep_encoder"]["total"] + 160_000_000


def test_four_bits_changes_only_how_the_frozen_weights_are_stored(capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("bitsandbytes", reason="pip install 'gemma-metamon[4bit]'")
    shown = []
    for name in ("gemma_synthetic_multitaskagent.gin", "gemma_synthetic_multitaskagent_4bit.gin"):
        assert main(["configs", "show", name, "--json"]) == 0
        shown.append(json.loads(capsys.readouterr().out)["architecture"]["parameters"]["whole"])
    assert shown[0] == shown[1]

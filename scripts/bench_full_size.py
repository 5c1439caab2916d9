"""Build the full-size agent with random weights and make one optimizer step on the CPU: time and peak memory.

    python scripts/bench_full_size.py --threads 2       # on a busy machine with GOMP_SPINCOUNT=1000 before it

One battle of 128 decisions (129 different turns) through Gemma 3 270M with LoRA and the 1280-wide transformer, float32.
Prints a table for people, then one line of JSON. Downloads nothing. Without the variable, threads that wait by spinning
make it several times slower on a machine that is busy with other things.
"""

import argparse
import gc
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.data.dataset import collate, take_window
from gemma_metamon.data.encoding import EncodedBattle, encode_battle
from gemma_metamon.nets.batch import Batch
from gemma_metamon.runs import resolve
from gemma_metamon.runs.experiment import Experiment
from gemma_metamon.view import BattleView

BATTLES = Path(__file__).parent.parent / "tests" / "goldens" / "battles" / "gen9ou"
MODEL, TRAINING = "gemma_synthetic_multitaskagent.gin", "binary_rl.gin"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--phrasing", choices=("natural", "raw"), default="natural", help="raw texts are longer")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    view = BattleView.default()
    agent, experiment = build_agent(view, args.phrasing, trim=True)
    result: dict[str, Any] = {"threads": args.threads, "phrasing": args.phrasing}
    result["parameters_trimmed"] = count_parts(agent)
    result |= make_step(agent, experiment, build_batch(view, experiment.max_seq_len))
    result["peak_gib"] = round(peak_bytes() / 2**30, 2)  # before the whole embedding is built
    del agent
    gc.collect()
    result["parameters_whole"] = count_parts(build_agent(view, args.phrasing, trim=False)[0])
    print_table(result)
    print(json.dumps(result))


def build_agent(view: BattleView, phrasing: str, *, trim: bool) -> tuple[Any, Experiment]:
    overrides = [
        "GemmaTstepEncoder.pretrained = False",
        "GemmaTstepEncoder.dtype = 'float32'",
        f"GemmaTstepEncoder.phrasing = {phrasing!r}",
        f"GemmaTstepEncoder.trim_vocabulary = {trim}",
    ]
    resolve.load(MODEL, TRAINING, overrides)
    experiment: Experiment = configurable(EXPERIMENT)()
    return experiment.build_agent(view), experiment


def build_batch(view: BattleView, decisions: int) -> Batch:
    """One battle of that many decisions whose turns all differ, strung together from recorded ones."""
    recorded = [encode_battle(path, view) for path in sorted(BATTLES.glob("*.json.lz4"))]
    if not recorded:
        raise SystemExit(f"no battles in {BATTLES}; run this from a checkout")
    word_ids = np.concatenate([battle.word_ids for battle in recorded])
    different = np.sort(np.unique(word_ids, axis=0, return_index=True)[1])[: decisions + 1]
    if len(different) <= decisions:  # too few recorded turns: the rest gets one word replaced, and differs so
        word_ids = np.tile(word_ids, (-(-decisions // len(word_ids)) + 1, 1))[: decisions + 1].copy()
        word_ids[:, 5] = np.arange(decisions + 1)
        different = np.arange(decisions + 1)

    def strung(name: str) -> np.ndarray:
        array = np.concatenate([getattr(battle, name) for battle in recorded])
        return array[np.arange(decisions + 1) % len(array)]

    columns = {name: strung(name) for name in ("numbers", "legal_actions", "actions", "rewards", "labels")}
    battle = EncodedBattle(word_ids=word_ids[different], **columns)
    return collate([take_window(battle, 0, decisions)])


def make_step(agent: Any, experiment: Experiment, batch: Batch) -> dict[str, Any]:
    texts = batch.obs["text_tokens"][0]
    lengths = agent.tstep_encoder.subwords(texts).lengths
    optimizer = experiment.build_optimizer(agent)
    started = time.perf_counter()
    losses = agent(batch)
    loss = experiment.total_loss(agent, losses.actor_loss, losses.critic_loss)
    forward = time.perf_counter()
    loss.backward()
    grad_norm = torch.nn.utils.clip_grad_norm_(agent.trainable_parameters(), experiment.grad_clip)
    backward = time.perf_counter()
    optimizer.step()
    agent.update_targets()
    return {
        "decisions": batch.actions.shape[1],
        "distinct_turns": len(texts.unique(dim=0)),
        "subwords": int(lengths.sum()),
        "subwords_per_turn": round(float(lengths.float().mean()), 1),
        "loss": round(loss.item(), 4),
        "grad_norm": round(float(grad_norm), 4),
        "forward_s": round(forward - started, 1),
        "backward_s": round(backward - forward, 1),
        "step_s": round(time.perf_counter() - started, 1),
    }


def count_parts(agent: Any) -> dict[str, dict[str, int]]:
    trained = {id(parameter) for parameter in agent.trainable_parameters()}
    parts = {f"encoder.{part}": counts for part, counts in agent.tstep_encoder.parameter_counts().items()}
    for part in ("traj_encoder", "actor", "critics", "target_actor", "target_critics"):
        parameters = list(getattr(agent, part).parameters())
        parts[part] = {
            "total": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for p in parameters if id(p) in trained),
        }
    parts["all"] = {kind: sum(counts[kind] for counts in parts.values()) for kind in ("total", "trainable")}
    return parts


def peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def print_table(result: dict[str, Any]) -> None:
    print(f"{'parameters':<22}{'trimmed':>14}{'whole':>14}{'trainable':>14}")
    for part, counts in result["parameters_trimmed"].items():
        whole = result["parameters_whole"][part]["total"]
        print(f"{part:<22}{counts['total']:>14,}{whole:>14,}{counts['trainable']:>14,}")
    for name, value in result.items():
        if not isinstance(value, dict):
            print(f"{name:<22}{value:>14}")


if __name__ == "__main__":
    main()

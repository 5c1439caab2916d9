"""A battle as vectors: the timestep encoder of an agent alone, without its transformer, actor and critics.

python examples/embed_battle.py battles/gen1ou/SOME_BATTLE.json.lz4 --run runs/first
"""

import argparse
from pathlib import Path

import torch
from torch.nn.functional import cosine_similarity

from gemma_metamon.data.dataset import collate, take_window
from gemma_metamon.data.encoding import encode_battle
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_agent


@torch.no_grad()
def embed(path: Path, run: str) -> torch.Tensor:
    """(T, width) float32, a vector for each state of a recorded battle."""
    agent, meta = load_agent(Checkpoint.find_named(run), "cpu")
    battle = encode_battle(path, meta.view())
    batch = collate([take_window(battle, 0, battle.n_decisions)])  # a batch of one battle
    vectors: torch.Tensor = agent.get_submodule("tstep_encoder")(batch.obs, batch.rl2s)
    return vectors[0]


def main() -> None:
    """Prints how alike each turn is to the one before it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("battle", type=Path)
    parser.add_argument("--run", required=True, help="a run's folder, or RUN@EPOCH")
    parser.add_argument("--out", type=Path, help="where to save the vectors, with torch.save")
    args = parser.parse_args()
    vectors = embed(args.battle, args.run)
    alike = cosine_similarity(vectors[1:], vectors[:-1], dim=1)
    print(f"{len(vectors)} states, vectors of {vectors.shape[1]} entries")
    for decision in alike.argsort()[:3].tolist():
        print(f"after decision {decision} much has changed: cosine {alike[decision]:.3f}")
    if args.out is not None:
        torch.save(vectors, args.out)


if __name__ == "__main__":
    main()

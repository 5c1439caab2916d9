"""A prepared store as a PyTorch data set: batches of battles for any model, without the trainer.

gemma-metamon prepare --parsed_replay_dir battles --out store
python examples/store_as_dataset.py store
"""

import argparse
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from gemma_metamon.data.store import BattleStore

Columns = dict[str, torch.Tensor]


class StoredDecisions(Dataset[Columns]):
    """One item is one player's view of a battle, a row for each of its T states."""

    def __init__(self, root: Path) -> None:
        store = BattleStore(root)  # memory-mapped: it may be larger than memory
        every = store.battles(store.formats)
        self.battles = [battle for battle in every if battle.damage is None]

    def __len__(self) -> int:
        return len(self.battles)

    def __getitem__(self, number: int) -> Columns:
        """Word ids (T, W), numbers (T, N), legal actions (T, A), actions (T,), -1 where missing, and rewards (T,)."""
        battle = self.battles[number].load()
        names = ("word_ids", "numbers", "legal_actions", "actions", "rewards")
        return {name: torch.from_numpy(getattr(battle, name).copy()) for name in names}


def collate(battles: list[Columns]) -> Columns:
    """Battles side by side, padded to the longest; a padded action is -1, as a missing one."""
    padded = {}
    for name in battles[0]:
        padding = -1 if name == "actions" else 0
        padded[name] = pad_sequence([battle[name] for battle in battles], batch_first=True, padding_value=padding)
    return padded


def main() -> None:
    """Counts how often the recorded players attacked, switched and terastallised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--workers", type=int, default=0, help="processes that read (default: %(default)s)")
    args = parser.parse_args()
    dataset = StoredDecisions(args.store)
    counts = torch.zeros(13, dtype=torch.int64)
    for batch in DataLoader(dataset, batch_size=32, collate_fn=collate, num_workers=args.workers):
        actions = batch["actions"]
        counts += torch.bincount(actions[actions >= 0], minlength=13)
    moves, switches, tera = counts[:4].sum(), counts[4:9].sum(), counts[9:].sum()
    print(f"{len(dataset)} battles, {counts.sum()} choices: {moves} moves, {switches} switches, {tera} terastallised")


if __name__ == "__main__":
    main()

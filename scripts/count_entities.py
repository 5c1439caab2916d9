"""How much Gemma has to read: whole turns against their entities, counted on the bundled battles.

    python scripts/count_entities.py                     # --json for programs
    python scripts/count_entities.py --phrasing raw --obs_space OpponentMoveObservationSpace

A text is counted once within a battle or a batch of whole battles, bos included. Means over the batches that the sample
makes; "subwords" are those of one timestep. No model, no padding, nothing shared between texts that only begin alike.
"""

import argparse
import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

from gemma_metamon import sample_battles
from gemma_metamon.battle.observations import OBSERVATION_SPACES
from gemma_metamon.battle.replays import find_battles, load_battle
from gemma_metamon.text.phrases import PHRASINGS
from gemma_metamon.text.slots import split_turn
from gemma_metamon.text.subwords import SubwordTable

SCOPES = (1, 8, 32)
COLUMNS = {
    "timesteps": "timesteps",
    "entities": "distinct entities",
    "entities_per_turn": "of them per turn",
    "turn_subwords_all": "subwords: every turn",
    "turn_subwords": "distinct turns",
    "entity_subwords": "distinct entities",
    "ratio": "turns : entities",
}
Text = tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--battles", type=int, default=320, help="sampled of each format (default: %(default)s)")
    parser.add_argument("--obs_space", choices=OBSERVATION_SPACES, default="TeamPreviewObservationSpace")
    parser.add_argument("--phrasing", choices=PHRASINGS, default="natural")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    table, lengths = SubwordTable.load(args.phrasing), {}
    counts: dict[str, dict[str, dict[str, float]]] = {}
    for battle_format in sample_battles.bundled_formats():
        battles = read_battles(battle_format, args.battles, args.obs_space, args.seed)
        for text in {text for battle in battles for turn in battle for text in (sum(turn, ()), *turn)}:
            lengths[text] = len(table.encode_line(text))
        counts[battle_format] = {
            str(size): mean(
                count([turn for battle in battles[at : at + size] for turn in battle], lengths)
                for at in range(0, len(battles), size)
            )
            for size in SCOPES
        }
        counts[battle_format]["turn"] = {
            "slots": len(battles[0][0]),
            "distinct entities": mean({"n": len(set(turn))} for battle in battles for turn in battle)["n"],
        }
    print(json.dumps(vars(args) | counts) if args.json else as_table(counts))


def read_battles(battle_format: str, n: int, obs_space: str, seed: int) -> list[list[list[Text]]]:
    """Of each battle, of each turn, the words of each entity."""
    files = find_battles(sample_battles.extract(battle_format), [battle_format])
    space = OBSERVATION_SPACES[obs_space]
    slots = split_turn(space)
    return [
        [[tuple(turn[slot.start : slot.stop]) for slot in slots] for turn in space.observe_battle(states)[0].tolist()]
        for path in random.Random(seed).sample(files, min(n, len(files)))
        for states in [load_battle(path).states]
    ]


def count(turns: Sequence[Sequence[Text]], lengths: dict[Text, int]) -> dict[str, float]:
    """Of a batch: turns, each a sequence of entities."""
    texts = [sum(turn, ()) for turn in turns]
    entities = {entity for turn in turns for entity in turn}
    distinct_turns = sum(lengths[text] for text in set(texts))
    distinct_entities = sum(lengths[entity] for entity in entities)
    return {
        "timesteps": len(turns),
        "entities": len(entities),
        "entities_per_turn": len(entities) / len(turns),
        "turn_subwords_all": sum(lengths[text] for text in texts) / len(turns),
        "turn_subwords": distinct_turns / len(turns),
        "entity_subwords": distinct_entities / len(turns),
        "ratio": distinct_turns / distinct_entities,
    }


def mean(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    listed = list(rows)
    return {name: sum(row[name] for row in listed) / len(listed) for name in listed[0]}


def as_table(counts: dict[str, Any]) -> str:
    lines = [f"{'format':8}{'battles':>8}" + "".join(f"{column:>22}" for column in COLUMNS.values())]
    for battle_format, scopes in counts.items():
        for size in SCOPES:
            row = scopes[str(size)]
            lines.append(f"{battle_format:8}{size:8}" + "".join(f"{row[name]:22,.2f}" for name in COLUMNS))
    for battle_format, scopes in counts.items():
        turn = scopes["turn"]
        lines.append(f"{battle_format}: {turn['distinct entities']:.1f} different entities in {turn['slots']} slots")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

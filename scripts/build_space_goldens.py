"""What metamon's observation spaces show, recorded from metamon itself: run it where metamon 1.6.0 is installed.

Writes tests/goldens/spaces: `names.json` (the spaces, actions, rewards and word lists that metamon knows by name),
`digests.json` (SHA-256 of words and numbers of every golden battle in every space), `grouped.npz` and `pac.npz` (whole,
of a few battles) and `odd_states.json.xz` (states that no game brings about, with what every space shows of them).

With --fuzz nothing is written: that many states, changed at random, are shown to metamon and to this package.

    METAMON_CACHE_DIR=/tmp/cache python scripts/build_space_goldens.py
    METAMON_CACHE_DIR=/tmp/cache python scripts/build_space_goldens.py --fuzz 20000
"""

import argparse
import copy
import hashlib
import json
import lzma
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lz4.frame
import metamon
import numpy as np
from metamon import interface
from metamon.tokenizer import get_tokenizer
from metamon.tokenizer.tokenizer import PREMADE_TOKEN_LISTS

from gemma_metamon.battle.observations import OBSERVATION_SPACES
from gemma_metamon.battle.state import BattleState
from gemma_metamon.text.vocabulary import Vocabulary

GOLDENS = Path(__file__).resolve().parents[1] / "tests" / "goldens"
BATTLES = sorted((GOLDENS / "battles").rglob("*.json.lz4"))
WRAPPER = "PatchPokeAgentTeraBug"  # registered too, but metamon cannot make it by its name
WHOLE = BATTLES[::5]
N_ODD = 24


def show(name: str, states: Sequence[dict[str, Any]]) -> tuple[list[str], np.ndarray]:
    """What metamon shows of a battle: (T,) lines of words and (T, n_numbers) float32, groups one after the other."""
    space = interface.get_observation_space(name)
    space.reset()
    lines, rows = [], []
    for data in states:
        shown = space.state_to_obs(interface.UniversalState.from_dict(copy.deepcopy(data)))
        lines.append(" ".join(shown.pop(key).item() for key in space.tokenizable))
        groups = [key.replace("text", "numbers") for key in space.tokenizable]  # text_misc comes with numbers_misc
        rows.append(np.concatenate([shown[key] for key in groups]))
    return lines, np.stack(rows).astype(np.float32)


def place(path: Path) -> str:
    return path.relative_to(GOLDENS / "battles").as_posix()


def digest(lines: Sequence[str], numbers: np.ndarray) -> str:
    return hashlib.sha256("\n".join(lines).encode() + numbers.astype("<f4").tobytes()).hexdigest()


def load(path: Path) -> list[dict[str, Any]]:
    return json.loads(lz4.frame.decompress(path.read_bytes()))["states"]


def draw(key: str, value: Any, chance: random.Random, words: Sequence[str]) -> Any:
    """Another value of the same kind; lists and objects stay."""
    if isinstance(value, bool):
        return chance.random() < 0.5
    if isinstance(value, str):
        return " ".join(chance.choices(words, k=len(value.split(" "))))
    if isinstance(value, float):
        return round(chance.random(), chance.randint(0, 6))
    if isinstance(value, int):
        return chance.randint(*((-6, 6) if key.endswith("_boost") else (1, 6)))
    return value


def change(state: dict[str, Any], chance: random.Random, words: Sequence[str]) -> dict[str, Any]:
    """A state with about a third of its values replaced."""
    state = copy.deepcopy(state)
    pokemon = [state["player_active_pokemon"], state["opponent_active_pokemon"], *state["available_switches"]]
    moves = [move for one in pokemon for move in one["moves"]]
    for one in [state, *pokemon, *moves, state["player_prev_move"], state["opponent_prev_move"]]:
        one |= {key: draw(key, value, chance, words) for key, value in one.items() if chance.random() < 0.3}
    for one in pokemon:
        chance.shuffle(one["moves"])
        one["moves"] = one["moves"][: chance.randint(0, 4)]
    for move in [move for one in pokemon for move in one["moves"]]:
        move["max_pp"] = max(move["max_pp"], 1)  # metamon's older spaces divide by it
        if chance.random() < 0.05:
            move["name"] = chance.choice(["vicegrip", "vinewhip", "visegrip", "conversion", "conversion2", "return102"])
    chance.shuffle(state["available_switches"])
    state["available_switches"] = state["available_switches"][: chance.randint(0, 5)]
    state["opponent_teampreview"] = chance.sample(words, chance.choice([0, 1, 6, 7]))
    known = ["gen1ou", "gen9ou", "gen1oulongtimer", "gen9OULongTimer", "gen4ubers", "gen5ou"]
    state["format"] = chance.choice(known)
    state["opponent_active_pokemon"]["status"] = chance.choice(["nostatus", "slp", "frz", "par"])
    return state


def odd_battles(seed: int) -> Iterator[list[dict[str, Any]]]:
    chance, words = random.Random(seed), [word for word in Vocabulary.default() if not word.startswith("<")]
    battles = [load(path) for path in BATTLES]
    while True:
        battle = chance.choice(battles)
        yield [change(chance.choice(battle), chance, words) for _ in range(chance.randint(1, 8))]


def fuzz(count: int, seed: int) -> None:
    compared = differing = 0
    for battle in odd_battles(seed):
        states = [BattleState.from_dict(state) for state in copy.deepcopy(battle)]
        for name, space in OBSERVATION_SPACES.items():
            lines, numbers = show(name, battle)
            words, ours = space.observe_battle(states)
            same = [" ".join(row) for row in words] == lines and np.array_equal(ours, numbers)
            differing += not same
            if not same and differing < 4:
                report(name, lines, words, numbers, ours)
        compared += len(battle)
        if compared >= count:
            break
    print(f"{compared} states in {len(OBSERVATION_SPACES)} spaces, {differing} battles of which differ in some space")
    sys.exit(bool(differing))


def report(name: str, lines: Sequence[str], words: np.ndarray, numbers: np.ndarray, ours: np.ndarray) -> None:
    for line, row in zip(lines, words, strict=True):
        pairs = zip(line.split(" "), row, strict=True)
        print(name, {place: pair for place, pair in enumerate(pairs) if pair[0] != pair[1]})
    print(name, "numbers", np.argwhere(numbers != ours).tolist())


def write(name: str, value: Any) -> None:
    path = GOLDENS / "spaces" / name
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{name}: {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzz", type=int, metavar="N", help="compare N changed states and write nothing")
    parser.add_argument("--seed", type=int, default=0, help="of the changes (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.fuzz:
        fuzz(arguments.fuzz, arguments.seed)
    names = [name for name in interface.get_observation_space_names() if name != WRAPPER]
    (GOLDENS / "spaces").mkdir(exist_ok=True)
    keys = {}
    for name in names:
        gym_space = interface.TokenizedObservationSpace(
            interface.get_observation_space(name), get_tokenizer("DefaultObservationSpace-v1")
        ).gym_space
        keys[name] = {key: list(space.shape) for key, space in gym_space.spaces.items()}
    write(
        "names.json",
        {
            "metamon": metamon.__version__,
            "observation_spaces": keys,
            "action_spaces": interface.get_action_space_names(),
            "reward_functions": interface.get_reward_function_names(),
            "tokenizers": {name: len(get_tokenizer(name)) for name in PREMADE_TOKEN_LISTS},
        },
    )
    shown = {place(path): {name: show(name, load(path)) for name in names} for path in BATTLES}
    write("digests.json", {file: {name: digest(*one) for name, one in of.items()} for file, of in shown.items()})
    for file, wanted in (("grouped.npz", "Grouped"), ("pac.npz", "PAC-")):
        arrays = {}
        for path in WHOLE:
            for name in (name for name in names if name.startswith(wanted)):
                lines, numbers = shown[place(path)][name]
                arrays |= {f"{name}/{place(path)}/text": np.array(lines), f"{name}/{place(path)}/numbers": numbers}
        np.savez_compressed(GOLDENS / "spaces" / file, **arrays)
        print(f"{file}: {(GOLDENS / 'spaces' / file).stat().st_size} bytes")
    odd = []
    for battle in odd_battles(arguments.seed):
        one = {name: show(name, battle) for name in names}
        odd.append({"states": battle, "shown": {name: [lines, rows.tolist()] for name, (lines, rows) in one.items()}})
        if sum(len(battle["states"]) for battle in odd) >= N_ODD:
            break
    path = GOLDENS / "spaces" / "odd_states.json.xz"
    path.write_bytes(lzma.compress(json.dumps(odd, separators=(",", ":")).encode()))
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

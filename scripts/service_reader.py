"""The reader of what is sent to `gemma-metamon serve`, for fuzz_readers.py. Needs the extra `serve`."""

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tiny_agent
from mutations import mutate_json

from gemma_metamon import sample_battles
from gemma_metamon.battle.replays import find_battles, load_battle
from gemma_metamon.serving.asked import read_asked
from gemma_metamon.view import BattleView


class ServiceReader:
    """The body of a request to `serve`, as it is answered: harmed JSON, a harmed log, a harmed request."""

    def __init__(self, folder: Path) -> None:
        import torch

        from gemma_metamon.configs.names import EXPERIMENT, configurable
        from gemma_metamon.runs import resolve
        from gemma_metamon.serving.battles import SPARE, Battles
        from gemma_metamon.showdown.players.policy_player import BatchedPolicy

        torch.set_num_threads(1)
        resolve.load("gemma_tiny_multitaskagent.gin", "binary_rl.gin", tiny_agent.OVERRIDES)
        view = BattleView.default()
        experiment: Any = configurable(EXPERIMENT)()
        policy = BatchedPolicy(experiment.build_agent(view).eval(), view, max_battles=4 + SPARE)
        policy.judges = True
        self.battles = Battles(policy, 4)
        states = load_battle(find_battles(sample_battles.extract("gen1ou"), ["gen1ou"])[0]).states[:3]
        self.observation = {"observation": {"states": [state.to_dict() for state in states], "actions": [0, 0]}}
        side = {"name": "Ann", "id": "p1", "pokemon": [_pokemon("Snorlax", active=True), _pokemon("Gengar")]}
        moves = [{"move": "Rest", "id": "rest", "pp": 16, "maxpp": 16, "target": "self", "disabled": False}]
        self.request = {"active": [{"moves": moves}], "side": side, "rqid": 3}
        self.log = _LOG

    def harm(self, rng: random.Random) -> None:
        name, log, request = f"battle-gen{rng.choice('19')}ou-{rng.randrange(8)}", [*self.log], json.dumps(self.request)
        kind = rng.random()
        if kind < 0.3:
            whole = rng.choice((self.observation, {"battle": name, "log": log, "request": self.request}))
            self.body = mutate_json(rng, json.dumps(whole).encode())
            return
        for _ in range(rng.randrange(6)):
            at = rng.randrange(len(log))
            parts = log[at].split("|") + rng.choice(log).split("|")
            rng.shuffle(parts)
            log.insert(at, "|" + "|".join(parts[: rng.randrange(6)]))
        if kind < 0.6:
            log.append(f"|request|{mutate_json(rng, request.encode()).decode('utf-8', 'replace')}")
            self.body = json.dumps({"battle": name, "log": log}).encode()
        else:
            self.body = json.dumps({"battle": name, "log": log, "request": self.request}).encode()

    def read(self) -> Iterator[Any]:
        answer = asyncio.run(self.battles.answer(read_asked(self.body)))
        yield [each["probability"] or 0.0 for each in answer["choices"]]
        yield [each["value"] or 0.0 for each in answer["choices"]]


_LOG = [
    "|player|p1|Ann|1|", "|player|p2|Bob|2|", "|teamsize|p1|2", "|teamsize|p2|2", "|gametype|singles", "|gen|1",
    "|start", "|switch|p1a: Snorlax|Snorlax|300/300", "|switch|p2a: Tauros|Tauros|100/100", "|turn|1",
    "|move|p2a: Tauros|Body Slam|p1a: Snorlax", "|-damage|p1a: Snorlax|250/300 par", "|-status|p1a: Snorlax|par",
    "|move|p1a: Snorlax|Rest|p1a: Snorlax", "|-heal|p1a: Snorlax|300/300 slp", "|-boost|p2a: Tauros|atk|1", "|turn|2",
]  # fmt: skip


def _pokemon(name: str, *, active: bool = False) -> dict[str, Any]:
    stats = dict.fromkeys(("atk", "def", "spa", "spd", "spe"), 100)
    known = {"ident": f"p1: {name}", "details": name, "condition": "300/300", "active": active, "stats": stats}
    return {**known, "moves": ["rest"], "baseAbility": "noability", "item": "", "pokeball": "pokeball"}

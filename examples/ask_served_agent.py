"""A player of poke-env's that asks a served agent for every choice, and plays a few battles in this process.

    gemma-metamon serve runs/first &
    python examples/ask_served_agent.py http://127.0.0.1:8765 --battles 5

It sends what a client of Showdown has: the lines of the battle so far, with the request. GEMMA_METAMON_TOKEN is sent
where it is set.
"""

import argparse
import asyncio
import json
import os
import urllib.request
from typing import Any

from poke_env.battle import AbstractBattle
from poke_env.player import BattleOrder, Player, SingleBattleOrder

from gemma_metamon.showdown.live.poke_env_hooks import messages_read
from gemma_metamon.showdown.matches.evaluate import evaluate
from gemma_metamon.showdown.players.contestants import Contestant, scripted
from gemma_metamon.showdown.simulator.teams import load_teams


class ServedPlayer(Player):
    """Plays what the service at `url` chooses."""

    url = "http://127.0.0.1:8765"

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        """Asks for the choice, and shows the first one with its probability and value."""
        answer = self.ask(battle)
        chosen = next(choice for choice in answer["choices"] if choice["order"] == answer["order"])
        if battle.turn == 1:
            print(f"{battle.battle_tag}: {chosen['name']}, {chosen['probability']:.0%}, value {chosen['value']}")
        return SingleBattleOrder(answer["order"])

    def teampreview(self, battle: AbstractBattle) -> str:
        """Asks for the lead."""
        return str(self.ask(battle)["order"])

    def ask(self, battle: AbstractBattle) -> dict[str, Any]:
        """The service's answer."""
        log = ["|".join(message) for message in messages_read(battle)]
        body = {"battle": battle.battle_tag, "log": log, "request": battle.last_request}
        headers = {"Content-Type": "application/json"}
        if token := os.environ.get("GEMMA_METAMON_TOKEN"):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(f"{self.url}/act", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as response:
            answer: dict[str, Any] = json.load(response)
        return answer


def main() -> None:
    """Plays, and prints who won how often."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of `gemma-metamon serve`")
    parser.add_argument("--format", default="gen1ou", help="(default: %(default)s)")
    parser.add_argument("--battles", type=int, default=5, help="(default: %(default)s)")
    args = parser.parse_args()
    ServedPlayer.url = args.url.rstrip("/")
    pair = (Contestant("served", ServedPlayer), scripted("RandomPlayer"))
    played = asyncio.run(
        evaluate([pair], args.battles, battle_format=args.format, teams=load_teams(args.format), concurrency=1)
    )
    print(f"the served agent won {played.pairs[0].players.wins} of {played.battles} battles")


if __name__ == "__main__":
    main()

"""An agent as a player of poke-env: it plays wherever poke-env's own players do.

python examples/agent_as_poke_env_player.py runs/first --battles 10
"""

import argparse
import asyncio
from typing import Any

from poke_env.player import MaxBasePowerPlayer

from gemma_metamon.intervals import wilson_interval
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_for_play
from gemma_metamon.showdown.matches.watching import play_pair
from gemma_metamon.showdown.players.policy_player import BatchedPolicy, PolicyPlayer
from gemma_metamon.showdown.players.registry import connection
from gemma_metamon.showdown.simulator.server import running_server
from gemma_metamon.showdown.simulator.teams import SeededTeambuilder, load_teams


async def play(run: str, websocket_url: str, battles: int) -> int:
    """Battles that the agent won of so many in gen1ou."""
    playable = load_for_play(Checkpoint.find_named(run))
    # all battles in play are decided in one batch; several players may ask one policy
    policy = BatchedPolicy(playable.agent, playable.view, max_battles=battles)

    def options(name: str, seed: int) -> dict[str, Any]:
        """Keyword arguments of any poke-env player, for a connection that a long decision does not cut."""
        team = SeededTeambuilder(load_teams("gen1ou"), seed)
        url = websocket_url
        return connection(name, battle_format="gen1ou", websocket_url=url, team=team, concurrency=battles)

    agent = PolicyPlayer(policy, **options("Agent", 0))
    opponent = MaxBasePowerPlayer(**options("MaxPower", 1))
    # `agent.battle_against(opponent, n_battles=battles)`, which also ends where the server is silent or refuses a team
    await play_pair(agent, opponent, battles)
    return int(agent.n_won_battles)


def main() -> None:
    """Starts a server, plays, and counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run's folder, or RUN@EPOCH")
    parser.add_argument("--battles", type=int, default=10)
    args = parser.parse_args()
    with running_server() as server:
        won = asyncio.run(play(args.run, server.websocket_url, args.battles))
    low, high = wilson_interval(won, args.battles)
    print(f"{won} of {args.battles} battles won against MaxBasePowerPlayer ({low:.0%} to {high:.0%})")


if __name__ == "__main__":
    main()

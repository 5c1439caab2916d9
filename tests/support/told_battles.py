"""Logs as a spectator has them, a few lines long, and what became of them."""

from gemma_metamon.battle.replays import RecordedBattle
from gemma_metamon.replay_logs.importing import read_views
from gemma_metamon.replay_logs.sources import read_replay

HEADER = (
    "|j|☆Ann_A",
    "|t:|1700000000",
    "|gametype|singles",
    "|player|p1|Ann_A|1|1512",
    "|player|p2|Bob|2|1498",
    "|gen|{gen}",
    "|tier|[Gen {gen}] OU",
    "|rule|HP Percentage Mod: HP is shown in percentages",
    "|teamsize|p1|3",
    "|teamsize|p2|3",
    "|start",
)


def replay(*lines: str, gen: int = 4, end: str = "|win|Ann_A") -> bytes:
    header = [line.format(gen=gen) for line in HEADER]
    return "\n".join([*header, *lines, "|", end]).encode()


def views_of(*lines: str, gen: int = 4, end: str = "|win|Ann_A") -> dict[str, RecordedBattle]:
    return read_views(read_replay(replay(*lines, gen=gen, end=end), "gen4ou-7.log"))[0]


def chosen(battle: RecordedBattle) -> list[str | None]:
    """Each action in words, without the terminal one."""
    words: list[str | None] = []
    for state, action in zip(battle.states[:-1], battle.actions[:-1], strict=True):
        moves = [move.name for move in state.player_active_pokemon.known_moves]
        if action < 0:
            words.append(None)
        elif 4 <= action <= 8:
            words.append(f"switch {state.switches[action - 4].name}")
        else:
            words.append(("tera " if action > 8 else "") + moves[action % 9 if action > 8 else action])
    return words


START = ("|switch|p1a: Tauros|Tauros, M|100/100", "|switch|p2a: Rotom|Rotom|100/100", "|turn|1")
NEXT = ("|", "|upkeep", "|turn|2")

TURN = (*START, "|move|p1a: Tauros|Earthquake|p2a: Rotom", *NEXT)

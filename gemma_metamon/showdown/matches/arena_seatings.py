"""The seatings of an evaluation, played in an arena: who is p1 and with which team is theirs, the rest is drawn."""

from collections.abc import Iterator, Sequence

from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.matches.arena_play import ArenaMatch, Plan, Table, needs_rounds
from gemma_metamon.showdown.matches.seatings import Ended, Seating, SeatingCounter
from gemma_metamon.showdown.players.contestants import Contestant, Outside


async def play_seatings(
    arena: Arena,
    seatings: Sequence[Seating],
    counter: SeatingCounter,
    *,
    battle_format: str,
    teams: Sequence[str],
    seed: int,
    in_play: int,
) -> None:
    """Plays seatings, begun one after the other in the order of their battles.

    Args:
        arena: plays nothing else.
        seatings: of nobody outside.
        counter: counts what ends.
        battle_format: e.g. "gen1ou".
        teams: packed; `Seating.draws` are positions among them. Empty for a format that gives out teams.
        seed: of all that is drawn.
        in_play: battles at a time.

    Raises:
        ConfigError: somebody outside.
        ServerError: as `ArenaMatch.play`; battles that ended before it are counted.
    """
    places = [(seating, draw) for seating in seatings for draw in range(len(seating.draws))]

    def count(plan: Plan, table: Table) -> None:
        seating, draw = places[plan.number]
        player, other = table[::-1] if seating.swapped else table
        ended = Ended(seating, draw, player.battle, (player.choices, other.choices))
        counter.count(ended, player.given_up or other.given_up)

    def plans() -> Iterator[Plan]:
        for number, (seating, draw) in enumerate(places):
            player, opponent = seating.result.player, seating.result.opponent
            if isinstance(opponent, Outside):
                raise ConfigError(f"{opponent.name} must be on a server that runs already; name it")
            p1, p2 = seating.draws[draw]
            yield Plan(
                number=number,
                players=(opponent, player) if seating.swapped else (player, opponent),
                teams=(teams[p1], teams[p2]) if teams else (None, None),
            )

    everybody = [who for seating in seatings for who in (seating.result.player, seating.result.opponent)]
    in_rounds = needs_rounds(who for who in everybody if isinstance(who, Contestant))
    await ArenaMatch(arena, battle_format, seed, in_play, count, in_rounds).play(plans())

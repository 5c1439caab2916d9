"""The seatings of an evaluation, played in arenas: who is p1 and with which team is theirs, the rest is drawn."""

from collections.abc import Iterator, Sequence
from functools import partial

from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.matches.arena_play import ArenaMatch, Plan, needs_rounds
from gemma_metamon.showdown.matches.arena_tables import Table
from gemma_metamon.showdown.matches.processes import PlayPlans, Tell, play_plans
from gemma_metamon.showdown.matches.seatings import Ended, Outcome, Seating, SeatingCounter
from gemma_metamon.showdown.players.contestants import Outside


async def play_seatings(
    seatings: Sequence[Seating],
    counter: SeatingCounter,
    *,
    battle_format: str,
    teams: Sequence[str],
    seed: int,
    workers: int,
    in_play: int,
    timeout_s: float,
    elsewhere: PlayPlans | None = None,
) -> None:
    """Plays seatings, begun one after the other in the order of their battles.

    Args:
        seatings: of nobody outside.
        counter: counts what ends.
        battle_format: e.g. "gen1ou".
        teams: packed; `Seating.draws` are positions among them. Empty for a format that gives out teams.
        seed: of all that is drawn.
        workers: see `play_plans`, as for the others.
        in_play: battles at a time.
        timeout_s: of silence.
        elsewhere: plays them on other machines; None plays them on this one.

    Raises:
        ConfigError: somebody outside.
        ServerError: as `play_plans`; battles that ended before it are counted.
    """
    places = [(seating, draw) for seating in seatings for draw in range(len(seating.draws))]

    def count(number: int, outcome: Outcome) -> None:
        seating, draw = places[number]
        counter.count(Ended(seating, draw, outcome))

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
                views=(int(seating.swapped),),
            )

    play = partial(_play, battle_format=battle_format, seed=seed)
    await (elsewhere or play_plans)(plans(), play, count, workers=workers, in_play=in_play, timeout_s=timeout_s)


async def _play(
    arena: Arena, plans: Sequence[Plan], in_play: int, tell: Tell, *, battle_format: str, seed: int
) -> None:
    """Plays some, and tells of their outcomes."""

    def ended(plan: Plan, table: Table) -> None:
        (place,) = plan.views
        player, other = table[place], table[1 - place]
        choices = player.choices, other.choices
        tell(plan.number, Outcome.of(player.battle, choices, player.given_up or other.given_up))

    in_rounds = needs_rounds(who for plan in plans for who in plan.players)
    await ArenaMatch(arena, battle_format, seed, in_play, ended, in_rounds).play(plans)

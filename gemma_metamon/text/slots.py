"""Which words of a turn describe the same entity: a Pokémon, a move, the field.

The words of a turn stand in a fixed order. A slot is a stretch of them that describes one entity, such as the third
Pokémon on the bench, whichever that is; every word is in exactly one slot. Where an agent reads entities by
themselves, the words of a slot are one short text.
"""

from dataclasses import dataclass
from typing import Final

from gemma_metamon.battle.observations import OBSERVATION_SPACES, ObservationSpace, get_observation_space
from gemma_metamon.errors import ConfigError

PARAMETER: Final = "GemmaTstepEncoder.observation_space"
READ_WHOLE: Final = "GemmaTstepEncoder.granularity = 'turn'"


@dataclass(frozen=True)
class Slot:
    """The words of every turn that describe one entity: `start` to `stop` (exclusive). The name says which entity."""

    name: str
    start: int
    stop: int


def split_turn(space: ObservationSpace) -> tuple[Slot, ...]:
    """The slots of a turn, in the order of its words."""
    slots, start = [], 0
    for name, length in space.entities.items():
        slots.append(Slot(name, start, start + length))
        start += length
    return tuple(slots)


def find_space(n_words: int, name: str | None) -> ObservationSpace:
    """The space whose turns have `n_words` words, which for 106 words only its name can say.

    Raises:
        ConfigError: an unknown name, one of a space of another width, or no name where the width does not tell.
    """
    if name is not None:
        try:
            space = get_observation_space(name)
        except ConfigError as error:
            raise ConfigError(f"{error}, whose entities are known, or read turns whole: {READ_WHOLE}") from error
        if space.n_words != n_words:
            raise ConfigError(
                f"{name} has {space.n_words} words, but the observations have {n_words}; correct {PARAMETER}"
            )
        return space
    alike: dict[tuple[Slot, ...], ObservationSpace] = {}  # those that hide tera types are split as those that do not
    for space in OBSERVATION_SPACES.values():
        if space.n_words == n_words:
            alike.setdefault(split_turn(space), space)
    fitting = list(alike.values())
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise ConfigError(
            f"no observation space whose entities are known has {n_words} words a turn; choose one of "
            f"{', '.join(f'{space.name} ({space.n_words})' for space in OBSERVATION_SPACES.values())}, "
            f"or read turns whole: {READ_WHOLE}"
        )
    raise ConfigError(
        f"{' and '.join(space.name for space in fitting)} both have {n_words} words a turn; "
        f"say which one it is: {PARAMETER} = {fitting[0].name!r}"
    )

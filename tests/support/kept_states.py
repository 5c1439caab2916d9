"""Battles at each of whose decisions the state with what was kept is compared with the state that is read anew."""

from dataclasses import dataclass, field

from poke_env.battle import Battle

from gemma_metamon.battle.replays import RecordedBattle
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.live.battle import LiveBattle
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.live.state import StateReader
from gemma_metamon.showdown.matches.arena_play import ArenaMatch, Plan
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.teams import load_teams

# what makes a Pokémon on the bench another, or the one on the field another's image: copies, disguises, cures of the
# whole team, items that change hands, abilities that work on leaving, formes
_COPIERS = ["Ditto|||imposter|transform", "Smeargle||leftovers|owntempo|mimic,transform,healbell,batonpass"]
# (the first generation that plays the team: name, species, item, ability, moves)
_TEAMS = {
    1: [
        "Ditto||||transform",
        "Mew||||transform,mimic,rest,conversion",
        "Porygon||||conversion,rest,toxic,haze",
        "Clefable||||mimic,metronome,minimize,thunderwave",
        "Starmie||||confuseray,recover,blizzard,thunderwave",
        "Tauros||||bodyslam,hyperbeam,substitute,rest",
    ],
    2: [
        *_COPIERS,
        "Miltank||mintberry||healbell,bodyslam,rest,toxic",
        "Umbreon||leftovers||thief,confuseray,meanlook,batonpass",
        "Porygon2||mysteryberry||conversion2,metronome,recover,icebeam",
        "Snorlax||miracleberry||sleeptalk,rest,bodyslam,curse",
    ],
    3: [
        *_COPIERS,
        "Starmie||lumberry|naturalcure|trick,recover,toxic,surf",
        "Blissey||leftovers|naturalcure|aromatherapy,thunderwave,toxic,softboiled",
        "Castform|||forecast|weatherball,raindance,sunnyday,knockoff",
        "Gardevoir|||trace|skillswap,trick,psychic,wish",
    ],
    5: [
        "Ditto||choicescarf|imposter|transform",
        "Zoroark||lifeorb|illusion|knockoff,uturn,nightdaze,transform",
        "Slowbro||leftovers|regenerator|trick,skillswap,soak,healbell",
        "Blissey|||naturalcure|aromatherapy,toxic,thunderwave,softboiled",
        "Darmanitan||sitrusberry|zenmode|flareblitz,knockoff,uturn,rest",
        "Smeargle||focussash|moody|mimic,transform,entrainment,reflecttype",
    ],
    6: [
        "Zoroark||lifeorb|illusion|knockoff,uturn,nightdaze,transform",
        "Ditto|||imposter|transform",
        "Aegislash||weaknesspolicy|stancechange|kingsshield,shadowsneak,shadowball,toxic",
        "Slowbro||leftovers|regenerator|trick,skillswap,soak,healbell",
        "Greninja|||protean|uturn,spikes,icebeam,knockoff",
        "Charizard||charizarditex|blaze|dragondance,flareblitz,dragonclaw,roost",
    ],
    8: [
        "Zoroark||lifeorb|illusion|knockoff,uturn,nightdaze,transform",
        "Ditto|||imposter|transform",
        "Cramorant|||gulpmissile|surf,dive,uturn,roost",
        "Morpeko|||hungerswitch|aurawheel,partingshot,knockoff,rapidspin",
        "Eiscue|||iceface|bellydrum,icebeam,liquidation,healbell",
        "Slowbro||leftovers|regenerator|trick,skillswap,soak,healbell",
    ],
}


def mechanics_team(gen: int) -> str:
    """Packed, for a custom game."""
    members = _TEAMS[max(first for first in _TEAMS if first <= gen)]
    return "]".join(f"{member}|||||||" for member in members)


@dataclass
class Compared:
    """How many states were compared, and how many Pokémon in them were those of the state before."""

    states: int = 0
    pokemon: int = 0
    kept: int = 0
    different: list[str] = field(default_factory=list)


class _Comparing(Recorder):
    def __init__(self, compared: Compared) -> None:
        super().__init__(self._count_kept)
        self._compared = compared

    def note_request(self, live: LiveBattle) -> None:
        super().note_request(live)
        self._compare(live)

    def note_end(self, live: LiveBattle, *, followed: bool = True) -> None:
        super().note_end(live, followed=followed)
        if followed:
            self._compare(live)

    def _compare(self, live: LiveBattle) -> None:
        self._compared.states += 1
        if live.state != StateReader(live.battle, live._memory).read():
            self._compared.different.append(f"{live.battle.battle_tag} turn {live.battle.turn}")

    def _count_kept(self, battle: Battle, record: RecordedBattle | None) -> None:
        before: set[int] = set()
        for state in () if record is None else record.states:
            shown = [state.player_active_pokemon, state.opponent_active_pokemon, *state.available_switches]
            self._compared.pokemon += len(shown)
            self._compared.kept += sum(id(pokemon) in before for pokemon in shown)
            before = {id(pokemon) for pokemon in shown}


async def compare_states(arena: Arena, battle_format: str, battles: int, *, seed: int, player: str) -> Compared:
    """Plays so many battles of a format; in one that gives out no teams, with our own or with `mechanics_team`."""
    compared = Compared()
    teams = _teams_of(battle_format)
    who = scripted(player)
    plans = [
        Plan(
            number=number,
            players=(who, who),
            teams=(teams[number % len(teams)], teams[(number // 2) % len(teams)]),
            recorders=(_Comparing(compared), _Comparing(compared)),
        )
        for number in range(battles)
    ]
    await ArenaMatch(arena, battle_format, seed, min(battles, 8), lambda plan, table: None, in_rounds=False).play(plans)
    return compared


def _teams_of(battle_format: str) -> list[str | None]:
    if "random" in battle_format:
        return [None]
    if battle_format.endswith("customgame"):
        return [mechanics_team(int(battle_format[3]))]
    return list(load_teams(battle_format))

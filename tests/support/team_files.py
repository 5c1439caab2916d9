"""Team texts as people post them, of every generation, each odd in some way. For tests and goldens."""

from gemma_metamon.showdown.simulator.team_texts import pack_teams, split_teams

HIDDEN_POWERS = [
    "Fighting", "Flying", "Poison", "Ground", "Rock", "Bug", "Ghost", "Steel",
    "Fire", "Water", "Grass", "Electric", "Psychic", "Ice", "Dragon", "Dark",
]  # fmt: skip
# IVs as the teambuilder writes them for generations 3 to 6
HIDDEN_POWER_IVS = {
    "Grass": "30 Atk / 30 SpA",
    "Fire": "0 Atk / 30 SpA / 30 Spe",
    "Ice": "30 Def",
    "Ground": "30 SpA / 30 SpD",
    "Fighting": "0 HP / 30 Def / 30 SpA / 30 SpD / 30 Spe",
    "Bug": "30 Atk / 30 Def / 30 SpD",
}
SWEEPER = "EVs: 4 HP / 252 SpA / 252 Spe\nTimid Nature\n"
GENGAR = f"Gengar @ Leftovers\nAbility: Cursed Body\n{SWEEPER}- Shadow Ball\n- Sludge Bomb\n"
SNORLAX = "Snorlax @ Leftovers\nAbility: Thick Fat\nEVs: 252 HP / 252 SpD\nCareful Nature\n- Body Slam\n- Rest\n"
TAUROS = "Tauros\nAbility: No Ability\nEVs: 252 HP / 252 Atk\n- Body Slam\n- Hyper Beam"
PACKED = "Tauros||leftovers|intimidate|frustration,earthquake|Jolly|4,252,,,,252|||||0"


def set_of(first: str, *lines: str, moves: str = "- Tackle\n- Protect") -> str:
    return "\n".join([first, *lines, moves]) + "\n"


def _hidden_power(generation: int, kind: str, *, ivs: bool) -> str:
    first = {2: "Zapdos @ Leftovers", 7: "Zapdos @ Electrium Z"}.get(generation, "Zapdos @ Leftovers")
    level = ["Level: 100"] if generation == 7 else []
    stated = [f"IVs: {HIDDEN_POWER_IVS[kind]}"] if ivs else []
    ability = ["Ability: Pressure"] if generation > 2 else []
    return set_of(first, *ability, *level, SWEEPER.rstrip(), *stated, moves=f"- Hidden Power [{kind}]\n- Thunderbolt")


def _hidden_powers() -> dict[str, str]:
    """Every type without an IVs line, the generations in turn; some with one."""
    plain = {
        f"gen{2 + i % 6} hidden power {kind}": _hidden_power(2 + i % 6, kind, ivs=False)
        for i, kind in enumerate(HIDDEN_POWERS)
    }
    stated = {
        f"gen{3 + i % 4} hidden power {kind} with IVs": _hidden_power(3 + i % 4, kind, ivs=True)
        for i, kind in enumerate(HIDDEN_POWER_IVS)
    }
    return plain | stated


TEXTS: dict[str, str] = {
    **_hidden_powers(),
    "hidden power without brackets": set_of("Jolteon", SWEEPER.rstrip(), moves="- Hidden Power Ice\n- Thunderbolt"),
    "hidden power bare": set_of("Unown @ Choice Specs", "Ability: Levitate", moves="- Hidden Power"),
    "hidden power of no type": set_of("Unown", "Ability: Levitate", moves="- Hidden Power [Moon]"),
    "hidden power line of gen7": set_of(
        "Magnezone @ Choice Specs", "Ability: Magnet Pull", "Hidden Power: Fire", moves="- Hidden Power Fire\n- Thunder"
    ),
    # names
    "nickname": set_of("Bitey (Garchomp) @ Rocky Helmet", "Ability: Rough Skin", "Jolly Nature"),
    "nickname and gender": set_of("Lady (Salazzle) (F) @ Focus Sash", "Ability: Corrosion"),
    "gender without item": set_of("Tauros (M)", "Ability: Intimidate"),
    "female nidoran": set_of("Nidoran-F (F) @ Eviolite", "Ability: Hustle"),
    "nickname with @": set_of("me@home (Scizor) @ Choice Band", "Ability: Technician"),
    "nickname with @ between spaces": set_of("you @ home (Scizor) @ Choice Band", "Ability: Technician"),
    "nickname in parentheses": set_of("(: (Wobbuffet) @ Leftovers", "Ability: Shadow Tag"),
    "nickname with closed parentheses": set_of("Mew (two) (Mewtwo) @ Leftovers", "Ability: Pressure"),
    "nickname of another script": set_of("ドラゴン (Dragonite) (M) @ Lum Berry", "Ability: Multiscale"),
    "nickname with emoji": set_of("🔥🔥 (Cinderace) @ Life Orb", "Ability: Libero"),
    "nickname with combining marks": set_of("e\u0301te\u0301 (Celebi) @ Leftovers", "Ability: Natural Cure"),
    "nickname with apostrophe": set_of("Ain't Nothin' (Sirfetch\u2019d) @ Leek", "Ability: Scrappy"),
    "nickname in brackets": set_of("[x] (Tauros) @ Leftovers", "Ability: Intimidate"),
    "nickname with comma": set_of("Hi, you (Pikachu) @ Light Ball", "Ability: Static"),
    "nickname that is another species": set_of("Blissey (Chansey) @ Eviolite", "Ability: Natural Cure"),
    "nickname that is a gender": set_of("(M) (Snorlax) @ Leftovers", "Ability: Immunity"),
    "nickname that is a line's beginning": set_of("Ability: None (Durant) @ Choice Band", "Ability: Hustle"),
    "nickname of digits": set_of("007 (Decidueye) @ Spell Tag", "Ability: Long Reach"),
    "species with an apostrophe": set_of("Farfetch'd @ Stick", "Ability: Defiant"),
    "species with accents": set_of("Flabébé @ Eviolite", "Ability: Flower Veil"),
    "species with a colon": set_of("Type: Null @ Eviolite", "Ability: Battle Armor"),
    "species with a dot": set_of("Mr. Mime @ Light Clay", "Ability: Filter") + "\n" + set_of("Mime Jr."),
    "species in lower case": set_of("landorus-therian @ choice scarf", "Ability: intimidate", "jolly nature"),
    "species by alias": set_of("Lando-T @ Choice Scarf", "Ability: Intimidate", moves="- EQ\n- U-turn"),
    "species unknown": set_of("Fakemon @ Leftovers", "Ability: Pressure"),
    "formes": "\n".join(
        set_of(first, "Ability: Levitate")
        for first in (
            "Rotom-Wash @ Leftovers", "Ogerpon-Wellspring (F) @ Wellspring Mask", "Urshifu-Rapid-Strike @ Mystic Water",
            "Necrozma-Dusk-Mane @ Ultranecrozium Z", "Slowking-Galar @ Assault Vest", "Tauros-Paldea-Blaze (M)",
        )
    ),
    "cosmetic formes": set_of("Gastrodon-East @ Leftovers", "Ability: Storm Drain") + "\n" + set_of("Vivillon-Fancy"),
    "mega stone": set_of("Charizard @ Charizardite X", "Ability: Blaze") + "\n" + set_of("Lucario-Mega"),
    "arceus by plate": set_of("Arceus-Ghost @ Spooky Plate", "Ability: Multitype", moves="- Judgment\n- Recover"),
    # lines
    "happiness": set_of("Tauros @ Leftovers", "Ability: Intimidate", "Happiness: 0", moves="- Frustration"),
    "happiness between": set_of("Snorlax", "Ability: Immunity", "Happiness: 160", moves="- Return"),
    "frustration alone": set_of("Tauros", "Ability: Intimidate", moves="- Frustration\n- Earthquake"),
    "shiny and level": set_of("Pikachu @ Light Ball", "Ability: Static", "Level: 50", "Shiny: Yes"),
    "not shiny": set_of("Pikachu", "Ability: Static", "Shiny: No"),
    "level of words": set_of("Pikachu", "Ability: Static", "Level: fifty"),
    "level five": set_of("Pawniard @ Eviolite", "Ability: Defiant", "Level: 5", "EVs: 36 HP / 236 Atk / 236 Spe"),
    "pokeball": set_of("Gengar @ Leftovers", "Ability: Cursed Body", "Pokeball: Luxury Ball", "Tera Type: Ghost"),
    "gigantamax": set_of("Gengar-Gmax @ Leftovers", "Ability: Cursed Body", "Gigantamax: Yes", "Dynamax Level: 5"),
    "gigantamax line": set_of("Snorlax", "Ability: Gluttony", "Shiny: Yes", "Gigantamax: Yes", "Happiness: 3"),
    "dynamax level": set_of("Dracovish @ Choice Band", "Ability: Strong Jaw", "Dynamax Level: 0"),
    "tera type": set_of("Dragonite @ Boots", "Ability: Multiscale", "Tera Type: Steel", "Adamant Nature"),
    "tera stellar": set_of("Terapagos @ Leftovers", "Ability: Tera Shift", "Tera Type: Stellar"),
    "tera unknown": set_of("Dragonite", "Ability: Multiscale", "Tera Type: fairy "),
    "no ability": set_of("Tauros"),
    "ability by the old word": set_of("Tauros @ Leftovers", "Trait: Intimidate"),
    "ability in lower case": set_of("Zapdos @ Leftovers", "ability: Pressure"),
    "no item": set_of("Tauros @ No Item", "Ability: Intimidate"),
    "item with an apostrophe": set_of("Zapdos @ King's Rock", "Ability: Static"),
    "two items": set_of("Zapdos @ Leftovers @ Life Orb", "Ability: Static"),
    "items of gen2": set_of("Ampharos @ Miracle Berry", "Ability: No Ability", "IVs: 30 Def"),
    "nature in lower case": set_of("Zapdos", "Ability: Static", "modest nature"),
    "nature with a colon": set_of("Zapdos", "Ability: Static", "Nature: Modest"),
    "nature unknown": set_of("Zapdos", "Ability: Static", "Sleepy Nature", "undefined Nature"),
    "nature with more": set_of("Zapdos", "Ability: Static", "Modest Nature (+SpA, -Atk)"),
    "EVs with odd spaces": set_of("Zapdos", "Ability: Static", "EVs: 252  HP /4 Def/ 252 SpA"),
    "EVs by long names": set_of("Zapdos", "Ability: Static", "EVs: 4 Hit Points / 252 Special Attack / 252 Speed"),
    "EVs in lower case": set_of("Zapdos", "Ability: Static", "EVs: 4 hp / 252 satk / 252 spd / 9 spe"),
    "EVs of words": set_of("Zapdos", "Ability: Static", "EVs: all in speed / x HP / 12abc Atk / -4 Def / 1.5 SpA"),
    "EVs twice": set_of("Zapdos", "EVs: 252 HP", "EVs: 252 Atk"),
    "EVs all": set_of("Tauros", "EVs: 252 HP / 252 Atk / 252 Def / 252 SpA / 252 SpD / 252 Spe"),
    "EVs with dashes": set_of("Zapdos", "EVs: 252 HP - 252 Atk"),
    "IVs zero": set_of("Ferrothorn @ Leftovers", "Ability: Iron Barbs", "IVs: 0 Spe", "Relaxed Nature"),
    "IVs of 31": set_of("Ferrothorn", "IVs: 31 HP / 31 Spe"),
    "IVs of words": set_of("Ferrothorn", "IVs: zero Atk / 0 Speed / 99 Def / foo"),
    "IVs of gen1": set_of("Chansey", "Ability: No Ability", "IVs: 2 Atk", moves="- Ice Beam\n- Soft-Boiled"),
    "line of the future": set_of("Zapdos", "Size: L", "Met: Route 1", "Ability: Static", "Mint: Timid"),
    "line that is no line": set_of("Zapdos @ Leftovers", "best mon", "Ability: Static", "// a remark", "* point"),
    # moves
    "move without a space": set_of("Gengar @ Leftovers", "Ability: Cursed Body", moves="-Shadow Ball\n- Sludge Bomb"),
    "moves with waves": set_of("Gengar", "Ability: Levitate", moves="~ Shadow Ball\n~Thunderbolt"),
    "moves with slashes": set_of("Gengar", "Ability: Levitate", moves="- Shadow Ball / Hex\n- Icy Wind/Thunderbolt"),
    "moves in brackets": set_of("Gengar", "Ability: Levitate", moves="- [Shadow Ball]\n- Hidden Power [Fire]\n- (Hex)"),
    "moves with two dashes": set_of("Gengar", "Ability: Levitate", moves="-- Shadow Ball\n- - Hex\n-\n- Toxic"),
    "moves with other dashes": set_of("Gengar", "Ability: Levitate", moves="\u2013 Shadow Ball\n• Hex\n- Toxic"),
    "moves by id": set_of("Gengar", "Ability: Levitate", moves="- shadowball\n- U-turn\n- 10,000,000 Volt Thunderbolt"),
    "moves with apostrophes": set_of("Landorus", moves="- Nature's Madness\n- King\u2019s Shield\n- Will-O-Wisp"),
    "five moves": set_of("Mew", "Ability: Synchronize", moves="- Psychic\n- Recover\n- Taunt\n- U-turn\n- Roost"),
    "one move": set_of("Ditto @ Choice Scarf", "Ability: Imposter", moves="- Transform"),
    "moves before the rest": "Gengar @ Leftovers\n- Hex\nAbility: Levitate\n- Toxic\nTimid Nature\n",
    # shape of the file
    "header": f"=== [gen9ou] mine ===\n\n{GENGAR}\n{SNORLAX}",
    "header without blank line": f"=== [gen9ou] mine ===\n{GENGAR}\n{SNORLAX}",
    "remarks as headers": f"=== Lead ===\n{GENGAR}\n=== Wall ===\n\n{SNORLAX}\n=== end ===\n",
    "remark inside a set": GENGAR.replace("Ability", "=== fast ===\nAbility"),
    "lines of the old teambuilder": f"{GENGAR}---\n{SNORLAX}---\n",
    "blank lines with spaces": f"\n  \n{GENGAR}  \n\t\n   \n{SNORLAX}\n   \n\n",
    "CRLF": f"{GENGAR}\n{SNORLAX}".replace("\n", "\r\n"),
    "CRCRLF": f"{GENGAR}\n{SNORLAX}".replace("\n", "\r\r\n"),
    "trailing spaces as Showdown writes": f"{GENGAR}\n{SNORLAX}".replace("\n", "  \n"),
    "tabs": GENGAR.replace("\n", "\t\n").replace("- ", "\t- ").replace("Ability", "\tAbility"),
    "indented": "".join(f"    {line}\n" for line in f"{GENGAR}\n{SNORLAX}".split("\n")),
    "no blank line at the end": GENGAR.rstrip(),
    "byte order mark": f"\ufeff{GENGAR}",
    "no-break spaces": GENGAR.replace("Timid Nature", "\u00a0Timid Nature\u00a0"),
    "no-break spaces inside": GENGAR.replace("Gengar @ ", "Gengar\u00a0@\u00a0"),
    "line separator": GENGAR.replace("Ability: Cursed Body", "Ability: Cursed\u2028Body"),
    "quoted": "".join(f"> {line}\n" for line in GENGAR.split("\n") if line),
    "six": "\n".join(set_of(f"{name} @ Leftovers", "Ability: Pressure") for name in (
        "Articuno", "Zapdos", "Moltres", "Raikou", "Entei", "Suicune",
    )),
    # JSON
    "JSON": '[{"name": "Zap", "species": "Zapdos", "item": "Leftovers", "moves": ["Roost"], "evs": {"hp": 4}}]',
    "JSON with everything": """[
  {"species": "Gengar", "item": "Life Orb", "ability": "Cursed Body", "moves": ["Hex", "Hidden Power [Fire]"],
   "shiny": true, "level": 50, "happiness": 7, "pokeball": "Luxury Ball", "gender": "F",
   "teraType": "Ghost", "nature": "Timid", "ivs": {"atk": 0}, "dynamaxLevel": 3, "gigantamax": true, "hpType": "Fire"}
]
""",
    # each generation as posted
    "gen1ou": "Starmie\nAbility: No Ability\n- Blizzard\n- Thunder Wave\n- Recover\n\nTauros\n- Body Slam\n",
    "gen2ou": "Raikou @ Leftovers\nAbility: No Ability\nIVs: 28 Atk\n- Thunder\n- Hidden Power [Ice]\n- Rest\n",
    "gen3ou": "Tyranitar @ Choice Band\nAbility: Sand Stream\nEVs: 252 Atk / 252 Spe\nAdamant Nature\n- Rock Slide\n",
    "gen4ou": "Jirachi @ Leftovers\nAbility: Serene Grace\nEVs: 252 HP / 224 SpD / 32 Spe\nCareful Nature\n- U-turn\n",
    "gen5ou": "Latios @ Soul Dew\nTrait: Levitate\nEVs: 252 SpA / 4 SpD\nTimid Nature\nIVs: 0 Atk\n- Draco Meteor\n",
    "gen6ou": "Gyarados @ Gyaradosite\nAbility: Intimidate\nHappiness: 255\nJolly Nature\n- Dragon Dance\n- Return\n",
    "gen7ou": "Tapu Koko @ Electrium Z\nAbility: Electric Surge\nTimid Nature\nIVs: 0 Atk\n- Nature's Madness\n",
    "gen8ou": "Corviknight @ Leftovers\nAbility: Pressure\nDynamax Level: 10\nImpish Nature\n- Body Press\n- U-turn\n",
    "gen9ou": "Kingambit @ Black Glasses\nAbility: Supreme Overlord\nTera Type: Dark\nJolly Nature\n- Kowtow Cleave\n",
}  # fmt: skip


def pack_team(text: str) -> str:
    """The line to send for a text that holds one team; a packed one as it is."""
    (team,) = split_teams(text)
    return pack_teams([("the team", team)])[0]


def species(team: str) -> list[str]:
    return [pokemon.split("|")[0] for pokemon in team.split("]")]


def backup(*teams: tuple[str, str]) -> str:
    """As Showdown's teambuilder writes all teams into one text."""
    return "".join(f"=== {title} ===\n\n{text}\n\n\n" for title, text in teams)

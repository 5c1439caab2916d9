"""Build gemma_metamon/text/assets/vocabulary.json: every word that an observation can hold, and its display name.

Species, moves, items, abilities, types, natures and formats come from the npm package pokemon-showdown (all
generations, the removed, unreleased and fan-made ones too), statuses, effects, weather and conditions from poke-env's
enums. Words that the asset holds already keep their id; new ones are appended.

    npm install --prefix /tmp/simulator pokemon-showdown@0.11.11
    python scripts/build_vocabulary.py --simulator /tmp/simulator
    python scripts/build_subwords.py --tokenizer google/gemma-3-270m
"""

import argparse
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from poke_env.battle import Effect, Field, MoveCategory, PokemonType, SideCondition, Status, Weather

from gemma_metamon.battle.words import letters, species_word

ASSET = Path(__file__).resolve().parents[1] / "gemma_metamon/text/assets/vocabulary.json"

DUMP = """
const {Dex} = require('pokemon-showdown');
Dex.includeFormats();
const out = {formats: Dex.formats.all().map(format => [format.id, format.name])};
for (const kind of ['abilities', 'items', 'moves', 'natures', 'types']) out[kind] = Dex[kind].all().map(x => x.name);
out.species = Dex.species.all().flatMap(x => [x.name, ...(x.cosmeticFormes || [])]);
console.log(JSON.stringify(out));
"""

# Tags and the words for nothing fill half of a turn: each is one of Gemma's subwords where English allows it. "none"
# fills six kinds of slot, no two of which share a place; "no item" is news (it was knocked off) and stays spelled out.
TAGS_AND_STATES = {
    "<anychoice>": "choose",
    "<forcedswitch>": "forced",
    "<player>": "you",
    "<move>": "move",
    "<switch>": "bench",
    "<moveset>": "moves",
    "<opponent>": "opponent",
    "<conditions>": "field",
    "<player_prev>": "last",
    "<opp_prev>": "theirs",
    "<blank>": "-",
    **dict.fromkeys(["nomove", "noability", "notype", "noeffect", "noconditions", "nofield"], "none"),
    "noitem": "no item",
    "nostatus": "healthy",
    "noweather": "clear",
    "unknown": "unknown",
    "unknownitem": "unknown item",
    "unknownability": "unknown ability",
    "brn": "burned",
    "fnt": "fainted",
    "frz": "frozen",
    "par": "paralyzed",
    "psn": "poisoned",
    "slp": "asleep",
    "tox": "badly poisoned",
    "physical": "physical",
    "special": "special",
    "status": "status",
    "threequestionmarks": "???",
}

# Effects that poke-env writes without a break between the words
BOOSTED_STATS = {"atk": "Attack", "def": "Defense", "spa": "Special Attack", "spd": "Special Defense", "spe": "Speed"}
UNBROKEN_EFFECTS = {
    "typeadd": "Type Added",
    "typechange": "Type Changed",
    **{f"protosynthesis{stat}": f"Protosynthesis {title}" for stat, title in BOOSTED_STATS.items()},
    **{f"quarkdrive{stat}": f"Quark Drive {title}" for stat, title in BOOSTED_STATS.items()},
}

# metamon records these four tiers in every generation, whatever the simulator offers today
RECORDED_TIERS = {"ou": "OU", "uu": "UU", "nu": "NU", "ubers": "Ubers"}
SINGLES_TIERS = (
    r"ou|uu|ru|nu|pu|zu|ubers|ubersuu|lc|nfe|cap|1v1|monotype|anythinggoes|nationaldex|randombattle|battlefactory"
)

# Words that recorded or live battles hold, or metamon's word list, and that none of the sources names.
EXTRA_WORDS = {
    # pseudo-moves of a request: the turn after Hyper Beam, and the one choice that generation 1 sometimes leaves
    "recharge": "Recharge",
    "fight": "Fight",
    # older names of what the simulator has renamed since
    "snow": "Snow",
    "vicegrip": "Vice Grip",
    "energypowder": "Energy Powder",
    "taurospaldea": "Tauros-Paldea",
    "taurospaldeafire": "Tauros-Paldea-Fire",
    "taurospaldeawater": "Tauros-Paldea-Water",
    # misspellings and debris of the usage statistics that its list was gathered from
    **{
        word: word
        for word in ("backwardmarkersforceunknown", "lefovers", "lefvoers", "nothing", "objectobject", "other")
    },
}


def dump_simulator(simulator: Path) -> dict[str, list]:
    result = subprocess.run(["node", "-e", DUMP], cwd=simulator, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"node found no usable pokemon-showdown in {simulator}: {result.stderr.strip()[-300:]}")
    return json.loads(result.stdout)


def name_formats(formats: list[list[str]]) -> Iterator[tuple[str, str]]:
    for generation in range(1, 10):
        for tier, title in RECORDED_TIERS.items():
            yield f"<gen{generation}{tier}>", f"Gen {generation} {title}"
    for format_id, title in formats:
        if re.fullmatch(rf"gen[1-9]({SINGLES_TIERS})", format_id):
            yield f"<{format_id}>", re.sub(r"[\[\]]", "", title)


def name_dex(dex: dict[str, list]) -> Iterator[tuple[str, str]]:
    for name in dex["types"]:
        yield letters(name), name
    for name in dex["species"]:
        yield species_word(name), name
    for kind in ("moves", "items", "abilities", "natures"):
        for name in dex[kind]:
            if kind == "items" and re.fullmatch(r"TR\d+", name):
                name = "TR"  # a hundred discs, one word
            if kind == "moves" and name.startswith("Hidden Power"):
                name = "Hidden Power"  # its type is the move's type
            yield letters(name), name
            yield species_word(name), name  # conversion2: recorded both ways


def name_enum_members() -> Iterator[tuple[str, str]]:
    for enum in (Status, Weather, SideCondition, Field, Effect, PokemonType, MoveCategory):
        for member in enum:
            word = letters(member.name)
            spaced = re.sub(r"\d", "", member.name).replace("_", " ").title()  # PERISH3: the count is not in the word
            yield word, UNBROKEN_EFFECTS.get(word, spaced)


def collect_display_names(simulator: Path) -> dict[str, str]:
    """Word -> display name in the order of the ids; the first source to name a word decides."""
    dex = dump_simulator(simulator)
    names: dict[str, str] = {}
    sources = (TAGS_AND_STATES.items(), name_formats(dex["formats"]), name_dex(dex), name_enum_members())
    for word, name in chain(*sources, EXTRA_WORDS.items()):
        # one form for accented letters: Gemma knows é, not e with a combining accent
        names.setdefault(
            word, unicodedata.normalize("NFC", name).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").strip()
        )
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulator", type=Path, required=True, help="folder with node_modules/pokemon-showdown")
    parser.add_argument("--from-scratch", action="store_true", help="renumber: refuses every older checkpoint")
    arguments = parser.parse_args()

    names = collect_display_names(arguments.simulator)
    kept: list[str] = []
    if ASSET.exists() and not arguments.from_scratch:
        asset = json.loads(ASSET.read_text(encoding="utf-8"))
        kept = asset["words"]
        names = dict(zip(kept, asset["natural"], strict=True)) | names
    added = [word for word in names if word not in set(kept)]
    words = kept + added
    asset = {"words": words, "natural": [names[word] for word in words]}
    ASSET.parent.mkdir(exist_ok=True)
    ASSET.write_text(json.dumps(asset, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{len(words)} words, {len(added)} of them new, {ASSET.stat().st_size} bytes: {ASSET.name}")


if __name__ == "__main__":
    main()

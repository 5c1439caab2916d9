"""A picture shows what the player knows, legibly, the same each time."""

import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat
from support.seen_battles import bundled, decisions_of, sprite

from gemma_metamon.battle.actions import FIRST_SWITCH
from gemma_metamon.battle.replays import load_battle
from gemma_metamon.errors import ConfigError, DataError, MissingFileError
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.telling.prompts import Decision, user_text
from gemma_metamon.vision.scenes.drawing import Painter
from gemma_metamon.vision.scenes.palette import THEMES, TYPES, Theme, ink_on
from gemma_metamon.vision.scenes.scene import Scene, scene_of, sprite_name
from gemma_metamon.vision.scenes.sprites import Sprites

FORMATS = ["gen1ou", "gen9ou"]


def texts_of(scene: Scene) -> list[str]:
    """All words of a scene but those of its design; prompts tell no fainted foe and no move that cannot be chosen."""
    sides = (scene.own, scene.foe)
    standing = [pokemon for pokemon in scene.foe.bench if pokemon.status != "fainted"]
    shown = [pokemon.name for pokemon in (*(side.active for side in sides), *scene.own.bench, *standing)]
    told = [text for side in sides for text in (*side.boosts, *side.carried, *side.effects, *side.conditions)]
    return [*shown, *told, *(button.name for button in scene.moves if button.legal), *scene.known, *scene.surroundings]


@pytest.mark.parametrize("battle_format", FORMATS)
def test_a_scene_tells_what_the_prompt_tells_and_no_more(battle_format: str) -> None:
    for number in range(4):
        for decision in decisions_of(battle_format, number):
            prompt, scene = user_text(decision), scene_of(decision)
            for text in texts_of(scene):
                assert text.replace(" +", "+").replace(" -", "-") in prompt or not decision.choices.keys() & {
                    0,
                    1,
                    2,
                    3,
                }
            assert [(p.name, p.legal) for p in scene.own.bench] == [
                (decision.choices.get(action, "").removeprefix("switch "), action in decision.choices)
                for action in range(FIRST_SWITCH, FIRST_SWITCH + len(scene.own.bench))
            ]
            if scene.foe.active.status != "fainted":
                told = re.search(rf"Foe: {re.escape(scene.foe.active.name)} (\d+)%", prompt)
                assert told is not None
                assert 0 <= int(told[1]) - (scene.foe.active.hp or 0) <= 5  # prompts round up to steps of five
            assert f"{scene.foes_left} left" in prompt


@pytest.mark.parametrize("battle_format", FORMATS)
def test_what_a_good_player_would_work_out_is_what_the_prompt_says_of_it(battle_format: str) -> None:
    seen = set()
    for decision in [each for number in range(3) for each in decisions_of(battle_format, number)]:
        prompt, scene = user_text(decision), scene_of(decision)
        lines = dict(line.split(": ", 1) for line in prompt.split("Choices:\n")[1].splitlines() if ": " in line)
        for button in scene.moves:
            told = lines.get(f"move {button.name}", "")
            if button.legal and told:
                assert button.strongest == told.startswith("strongest")
                assert button.knocks_out == ("knocks out" in told)
                if button.takes is not None and not button.knocks_out:
                    assert f"takes {button.takes}%" in told
                assert (button.lands is False) == ("no effect" in told)
                seen.add((button.strongest, button.knocks_out, button.lands))
        for pokemon in scene.own.bench:
            told = lines.get(f"switch {pokemon.name}", "")
            assert pokemon.best == told.startswith("best")
            if pokemon.ending:
                assert {"wins": "wins losing", "falls": "falls taking", "neither": "neither falls"}[
                    pokemon.ending
                ] in told
        own = next(line for line in prompt.splitlines() if line.startswith("You: "))
        assert {True: ", faster", False: ", slower"}.get(scene.faster, "You: ") in own  # type: ignore[arg-type]
        assert scene.suffers is None or f"hit for {scene.suffers}%" in own
    assert len(seen) > 3


def test_an_attack_is_drawn_with_a_bar_of_what_it_takes_and_the_strongest_in_a_frame() -> None:
    scene = scene_of(decisions_of("gen1ou")[0])
    for takes, knocks_out, colour in ((40, False, (255, 255, 255)), (100, True, (216, 48, 40))):
        first = replace(scene.moves[0], takes=takes, knocks_out=knocks_out, strongest=True, lands=None, legal=True)
        image = Painter(448).draw(replace(scene, moves=(first, *scene.moves[1:])))
        row = [image.getpixel((8 + x, 326)) for x in range(208)]
        assert abs(row.count(colour) - 2.08 * takes) <= 1
        assert image.getpixel((2, 300)) == image.getpixel((218, 334)) == (16, 16, 20)


def test_what_cannot_be_known_is_not_drawn() -> None:
    """The file has base stats of the opponent's Pokémon, too: they are no secret, but nothing that a screen shows."""
    decision = decisions_of("gen9ou")[5]
    foe = decision.state.opponent_active_pokemon
    other = replace(decision.state, opponent_active_pokemon=replace(foe, base_spe=1, base_atk=1))
    assert scene_of(replace(decision, state=other)) == scene_of(decision)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", [56, 112, 224, 333, 448, 896])
def test_the_same_scene_is_the_same_picture_whatever_was_drawn_before(size: int, theme: Theme) -> None:
    scenes = [scene_of(decision) for decision in decisions_of("gen9ou")[:8]]
    used = Painter(size, theme)
    drawn = [used.draw(scene) for scene in scenes]
    assert all(image.size == (size, size) and image.mode == "RGB" for image in drawn)
    assert Painter(size, theme).draw(scenes[5]).tobytes() == used.draw(scenes[5]).tobytes() == drawn[5].tobytes()
    different = {image.tobytes() for image in drawn}
    assert len(different) == len(set(scenes)) > 1


HP = st.floats(0, 1)


@settings(max_examples=25)
@given(HP, HP)
def test_the_bar_is_as_long_as_the_hp(own: float, foe: float) -> None:
    decision = decisions_of("gen1ou")[0]
    state = replace(
        decision.state,
        player_active_pokemon=replace(decision.state.player_active_pokemon, hp_pct=own),
        opponent_active_pokemon=replace(decision.state.opponent_active_pokemon, hp_pct=foe),
    )
    scene = scene_of(replace(decision, state=state))
    image = Painter(448).draw(scene)
    for left, top, side in ((10, 84, scene.foe), (236, 224, scene.own)):  # a row within each bar, of 150 pixels
        row = [image.getpixel((left + x, top)) for x in range(150)]
        filled = next((x for x, colour in enumerate(row) if colour == (196, 198, 206)), 150)
        assert abs(filled - 1.5 * (side.active.hp or 0)) <= 1


def test_a_replacement_shows_the_moves_dimmed_and_says_what_is_asked() -> None:
    forced = next(d for number in range(6) for d in decisions_of("gen9ou", number) if d.state.forced_switch)
    scene = scene_of(forced)
    assert scene.notice == "send out another"
    assert not any(button.legal for button in scene.moves)
    assert all(pokemon.legal for pokemon in scene.own.bench)


def test_a_choice_that_is_none_of_the_moves_stands_in_its_place() -> None:
    decision = decisions_of("gen1ou")[0]
    struggling = replace(decision, choices={0: "move Struggle"})
    buttons = scene_of(struggling).moves
    assert [(button.name, button.legal) for button in buttons if button.legal] == [("Struggle", True)]
    assert len(buttons) == len(decision.state.player_active_pokemon.known_moves)


@settings(max_examples=60)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64))
def test_any_name_can_be_drawn(name: str) -> None:
    scene = scene_of(decisions_of("gen1ou")[0])
    active = replace(scene.own.active, name=name)
    odd = replace(scene, own=replace(scene.own, active=active, bench=(active,)), known=(name,) * 4)
    assert Painter(112).draw(odd).size == (112, 112)


def test_no_two_types_have_like_colours_and_all_can_be_written_on() -> None:
    colours = list(TYPES.values())
    for number, one in enumerate(colours):
        for other in colours[number + 1 :]:
            assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) >= 40
        ink = ink_on(one)
        assert abs(sum(ink) - sum(one)) > 200


# Tesseract, from Debian


def read(image: Image.Image, box: tuple[int, int, int, int], folder: Path) -> str:
    """What stands in a part of a picture, in one line, by the places of 448 pixels."""
    scale = image.width / 448
    part = image.crop(tuple(round(scale * place) for place in box)).convert("L")  # type: ignore[arg-type]
    if ImageStat.Stat(part).median[0] < 128:  # Tesseract reads dark on light
        part = ImageChops.invert(part)
    part = part.resize((part.width * 2, part.height * 2), Image.Resampling.LANCZOS)
    part.save(folder / "part.png")
    command = ["tesseract", str(folder / "part.png"), "-", "--psm", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"OMP_THREAD_LIMIT": "1"})
    return done.stdout.strip()


def plain(text: str) -> str:
    return re.sub(r"[^a-z0-9%]", "", text.lower())


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="needs tesseract: apt install tesseract-ocr")
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("battle_format", FORMATS)
def test_names_and_hp_can_be_read_back(battle_format: str, theme: Theme, tmp_path: Path) -> None:
    painter = Painter(896, theme)
    scenes = [scene_of(decision) for decision in decisions_of(battle_format, 1)[2:14:6]]
    for scene in scenes:
        image = painter.draw(scene)
        for side, left, top in ((scene.foe, 4, 28), (scene.own, 230, 168)):
            assert plain(read(image, (left + 2, top + 1, left + 166, top + 27), tmp_path)) == plain(side.active.name)
            said = plain(read(image, (left + 158, top + 46, left + 213, top + 68), tmp_path))
            assert said.replace("o", "0") == f"{side.active.hp}%"  # a single 0 may be either
        first = scene.moves[0]
        assert plain(first.name) in plain(read(image, (8, 284, 160, 310), tmp_path)) or not first.legal


# Sprites


def test_a_sprite_stands_in_the_figures_place_and_others_are_drawn(tmp_path: Path) -> None:
    scene = scene_of(decisions_of("gen1ou")[0])
    sprite(tmp_path / "s", f"{scene.own.active.species}.png")
    sprites = Sprites(tmp_path / "s")
    image, plainly = Painter(448, sprites=sprites).draw(scene), Painter(448).draw(scene)
    assert image.getpixel((192, 218)) == (255, 0, 255)  # in the middle of the own figure
    changed = ImageChops.difference(image, plainly).getbbox()
    assert changed is not None
    assert changed[0] >= 150
    assert changed[2] <= 230
    assert scene.own.active.species in sprites
    assert scene.foe.active.species not in sprites


def test_formes_have_showdowns_names(tmp_path: Path) -> None:
    assert sprite_name("rotomwash", "rotom") == "rotom-wash"
    assert sprite_name("greattusk", "greattusk") == "greattusk"
    assert sprite_name("keldeoresolute", "keldeo") == "keldeo-resolute"
    sprite(tmp_path / "s", "rotom.png")
    assert "rotom-wash" not in Sprites(tmp_path / "s")  # another forme is another Pokémon
    sprite(tmp_path / "s", "rotomwash.gif")
    assert "rotom-wash" in Sprites(tmp_path / "s")


def test_wrong_sprites_and_sizes_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no folder"):
        Sprites(tmp_path / "nowhere")
    (tmp_path / "s").mkdir()
    with pytest.raises(MissingFileError, match=r"holds no NAME\.png or NAME\.gif"):
        Sprites(tmp_path / "s")
    large = sprite(tmp_path / "s", "mew.png", (600, 600))
    with pytest.raises(
        DataError, match=r"^[^ ]*mew\.png is 600 x 600 pixels, and a sprite has 16 to 512 on a side; scale it"
    ):
        Sprites(tmp_path / "s")
    large.write_bytes(large.read_bytes()[:40])
    with pytest.raises(DataError, match=r"mew\.png cannot be read as a picture"):
        Sprites(tmp_path / "s")
    whole = sprite(tmp_path / "s", "mew.png", (64, 64)).read_bytes()
    large.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"mew\.png cannot be read as a picture"):
        Sprites(tmp_path / "s")
    for size in (0, 55, 5000):
        with pytest.raises(ConfigError, match=f"--size {size} is no size"):
            Painter(size)


def test_at_least_a_hundred_scenes_are_drawn_in_a_second_of_one_core() -> None:
    battles = [load_battle(path) for path in bundled("gen9ou", 3)]
    decisions: list[Decision] = [decision for battle in battles for decision in recorded_decisions(battle)]
    painter = Painter(448)
    painter.draw(scene_of(decisions[0]))  # reads the tables
    begun = time.process_time()
    for decision in decisions:
        painter.draw(scene_of(decision))
    assert len(decisions) / (time.process_time() - begun) > 100

"""Four turns in one picture: in order, each in its place, the missing ones repeated and marked."""

import pytest
from PIL import Image, ImageChops
from support.seen_battles import decisions_of

from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.vision.scenes.drawing import Painter
from gemma_metamon.vision.scenes.grid import GridPainter, pictures_of
from gemma_metamon.vision.scenes.scene import scene_of
from gemma_metamon.vision.scenes.sheets import contact_sheet


def frame(grid: Image.Image, t: int) -> Image.Image:
    half = grid.width // 2
    left, top = half * (t % 2), half * (t // 2)
    return grid.crop((left, top, left + half, top + half))


def same_but_for_the_head(one: Image.Image, other: Image.Image) -> bool:
    top = one.height * 24 // 448
    body = (0, top, one.width, one.height)
    return ImageChops.difference(one.crop(body), other.crop(body)).getbbox() is None


@pytest.mark.parametrize("now", [3, 6, 9])
def test_each_turn_stands_in_its_place(now: int) -> None:
    decisions = decisions_of("gen9ou")[: now + 1]
    (picture,) = pictures_of(decisions, "grid")
    grid = GridPainter(448).draw(picture)
    assert grid.size == (448, 448)
    for t, decision in enumerate(decisions[-4:]):
        assert same_but_for_the_head(frame(grid, t), Painter(224).draw(scene_of(decision)))
    assert picture.repeated == 0


@pytest.mark.parametrize("now", [0, 1, 2])
def test_before_a_battle_began_its_first_turn_is_repeated_and_marked(now: int) -> None:
    decisions = decisions_of("gen1ou")[: now + 1]
    (picture,) = pictures_of(decisions, "grid")
    assert picture.repeated == 3 - now
    assert picture.scenes == (*[scene_of(decisions[0])] * (3 - now), *map(scene_of, decisions))
    grid, unmarked = GridPainter(448).draw(picture), GridPainter(448).draw(type(picture)(picture.scenes))
    for t in range(4):
        marked = ImageChops.difference(frame(grid, t), frame(unmarked, t)).getbbox() is not None
        assert marked == (t < 3 - now)
        assert same_but_for_the_head(frame(grid, t), frame(unmarked, t))


def test_the_other_layouts_show_the_same_scenes_alone() -> None:
    decisions = decisions_of("gen1ou")[:6]
    (grid,), (single,) = pictures_of(decisions, "grid"), pictures_of(decisions, "single")
    four = pictures_of(decisions, "four")
    assert [picture.scenes[0] for picture in four] == list(grid.scenes)
    assert four[-1] == single
    assert GridPainter(224).draw(single).tobytes() == Painter(224).draw(scene_of(decisions[-1])).tobytes()


def test_equal_pictures_have_equal_marks() -> None:
    decisions = decisions_of("gen9ou")
    marks = [pictures_of(decisions[: t + 1], "grid")[0].mark for t in range(len(decisions))]
    assert len(set(marks)) == len(marks)
    assert pictures_of(decisions[:5], "grid")[0].mark == marks[4]


def test_turns_of_two_battles_or_out_of_order_make_no_grid() -> None:
    one, other, third = decisions_of("gen1ou", 0), decisions_of("gen1ou", 3), decisions_of("gen9ou", 0)
    for wrong in ([*one[:2], *other[2:4]], [*one[:2], third[3]], [one[3], one[2]], [one[0], one[2]]):
        with pytest.raises(DataError, match=r"does not follow turn .* give a grid the turns of one battle, in order"):
            pictures_of(wrong, "grid")
    pictures_of(one[2:6], "grid")


def test_a_grid_of_an_odd_size_is_refused() -> None:
    (picture,) = pictures_of(decisions_of("gen1ou")[:1], "grid")
    with pytest.raises(ConfigError, match="--size 447 is odd"):
        GridPainter(447).draw(picture)


def test_a_sheet_has_room_for_all() -> None:
    images = [Image.new("RGB", (100, 100), (255, shade, 0)) for shade in range(8)]
    sheet = contact_sheet(iter(images), 8, 100)
    assert sheet.size == (6 * 106 + 6, 2 * 106 + 6)
    assert {sheet.getpixel((56 + 106 * (n % 6), 56 + 106 * (n // 6))) for n in range(8)} == {
        (255, n, 0) for n in range(8)
    }

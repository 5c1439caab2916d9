import tarfile
from collections import Counter
from pathlib import Path

import pytest

from gemma_metamon import sample_battles
from gemma_metamon.battle.actions import get_action_space
from gemma_metamon.battle.replays import BattleFileName, find_battles, load_battle
from gemma_metamon.errors import DataError, MissingFileError

MOST_BYTES = 12_000_000
FEWEST_BATTLES = 300


@pytest.fixture(scope="module", params=["gen1ou", "gen9ou"])
def bundled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Path]]:
    root = sample_battles.extract(request.param, tmp_path_factory.mktemp("bundled"))
    return request.param, find_battles(root, [request.param])


def check(path: Path) -> None:
    battle = load_battle(path)
    terminal = battle.states[-1]
    assert terminal.battle_won != terminal.battle_lost
    assert terminal.battle_won == BattleFileName.parse(path.name).won
    space = get_action_space("DefaultActionSpace")
    for state, action in zip(battle.states, battle.actions[:-1], strict=False):
        assert state.format in path.name
        assert space.legal(state)[action]


def test_archives_fit_the_wheel() -> None:
    archives = list(Path(sample_battles.__file__).parent.glob("*.tar.xz"))
    assert sum(path.stat().st_size for path in archives) <= MOST_BYTES
    assert sample_battles.bundled_formats() == ["gen1ou", "gen9ou"]


def test_there_are_enough_battles_and_both_views_of_each(bundled: tuple[str, list[Path]]) -> None:
    views = Counter(BattleFileName.parse(path.name).battle_id for path in bundled[1])
    assert set(views.values()) == {2}
    assert len(views) >= FEWEST_BATTLES


def test_some_battles_load_with_a_result_and_legal_actions(bundled: tuple[str, list[Path]]) -> None:
    for path in bundled[1][::50]:
        check(path)


@pytest.mark.slow
@pytest.mark.long
def test_all_battles_load_with_a_result_and_legal_actions(bundled: tuple[str, list[Path]]) -> None:
    for path in bundled[1]:
        check(path)


def test_battles_are_unpacked_once(bundled: tuple[str, list[Path]]) -> None:
    battle_format, files = bundled
    root = files[0].parent.parent
    again = sample_battles.extract(battle_format, root.parent)
    assert again == root
    files[0].unlink()
    assert not (sample_battles.extract(battle_format, root.parent) / battle_format / files[0].name).exists()


def test_packing_and_unpacking_keeps_every_battle(tmp_path: Path, battle_file: Path) -> None:
    archive = tmp_path / "gen9ou.tar.xz"
    sample_battles.pack([battle_file], archive)
    sample_battles._unpack(archive, tmp_path / "out")
    assert load_battle(tmp_path / "out" / battle_file.name) == load_battle(battle_file)
    again = tmp_path / "again.tar.xz"
    sample_battles.pack([battle_file], again)
    assert again.read_bytes() == archive.read_bytes()


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}")
    with tarfile.open(tmp_path / "bad.tar.xz", "w:xz") as tar:
        tar.add(tmp_path / "x", arcname="../gen1ou-1_Unrated_a_vs_b_01-01-2026_WIN.json")
    with pytest.raises(DataError, match=r"'\.\./gen1ou-1' cannot be part"):
        sample_battles._unpack(tmp_path / "bad.tar.xz", tmp_path / "out")


def test_format_without_bundled_battles_names_those_with() -> None:
    with pytest.raises(MissingFileError, match=r"gen3ou.*there are gen1ou, gen9ou.*collect --format gen3ou"):
        sample_battles.extract("gen3ou")

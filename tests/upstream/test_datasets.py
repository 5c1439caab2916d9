"""The dataset file for metamon 1.6.0: what it names, what is linked, what is refused. No metamon is needed."""

import shutil
from pathlib import Path

import pytest
import yaml
from support.small_agent import BATTLES

from gemma_metamon.battle.replays import find_battles, is_battle_file
from gemma_metamon.commands import main
from gemma_metamon.upstream.datasets import DATASET_FILE, ROOTS, link_roots, write_beside


@pytest.fixture
def replays(tmp_path: Path) -> Path:
    """gen1ou and gen9ou, with a name that YAML must not take apart."""
    folder = tmp_path / 'battles: "of" #people'
    for battle_format in ("gen1ou", "gen9ou"):
        for path in find_battles(BATTLES, [battle_format]):
            copy = folder / battle_format / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return folder


def dataset(capsys: pytest.CaptureFixture, *flags: str) -> dict:
    assert main(["configs", "dataset", *flags]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def found_by_metamon(root: Path, formats: list[str]) -> dict[str, int]:
    """As metamon 1.6.0 counts: the folder of a format, and an index.csv of the root that goes before it."""
    assert not (root / "index.csv").exists()
    folders = {name: root / name for name in formats if (root / name).is_dir()}
    return {name: sum(is_battle_file(path.name) for path in folder.iterdir()) for name, folder in folders.items()}


def test_every_format_has_a_root_of_its_own_and_every_battle_the_same_weight(
    replays: Path, capsys: pytest.CaptureFixture
) -> None:
    said = dataset(capsys, "--parsed_replay_dir", str(replays))
    assert said["replay_weight"] == 0
    assert said["formats"] == ["gen1ou", "gen9ou"]
    found = [found_by_metamon(Path(entry["dir"]), said["formats"]) for entry in said["custom_replays"]]
    counts = {name: len(find_battles(replays, [name])) for name in said["formats"]}
    assert found == [{name: count} for name, count in counts.items()]
    weights = [entry["weight"] for entry in said["custom_replays"]]
    assert weights == pytest.approx([count / sum(counts.values()) for count in counts.values()], rel=1e-5)


def test_custom_battles_have_the_share_that_train_gives_them(replays: Path, capsys: pytest.CaptureFixture) -> None:
    flags = ["--parsed_replay_dir", str(replays), "--custom_replay_dir", str(replays), str(replays)]
    said = dataset(capsys, *flags, "--custom_replay_weight", "0.4", "--formats", "gen9ou")
    assert [entry["weight"] for entry in said["custom_replays"]] == pytest.approx([0.6, 0.2, 0.2])
    assert said["formats"] == ["gen9ou"]


def test_without_folders_metamons_own_replays_are_taken(replays: Path, capsys: pytest.CaptureFixture) -> None:
    assert dataset(capsys, "--formats", "gen9ou") == {"replay_weight": 1, "formats": ["gen9ou"]}
    assert dataset(capsys) == {"replay_weight": 1}
    said = dataset(capsys, "--custom_replay_dir", str(replays), "--formats", "gen1ou")
    assert (said["replay_weight"], [entry["weight"] for entry in said["custom_replays"]]) == (0.75, [0.25])


def test_an_index_of_before_is_removed_so_that_new_battles_are_seen(replays: Path) -> None:
    (root,) = link_roots(replays, ["gen1ou"])
    (root.folder / "index.csv").write_text("filename\ngen1ou/old.json\n")
    (again,) = link_roots(replays, ["gen1ou"])
    assert again == root
    assert found_by_metamon(root.folder, ["gen1ou"])["gen1ou"] == root.battles


def test_links_go_where_they_are_told_and_follow_battles_that_moved(replays: Path, tmp_path: Path) -> None:
    link_roots(replays, ["gen1ou"], tmp_path / "links")
    moved = replays.rename(tmp_path / "moved")
    (root,) = link_roots(moved, ["gen1ou"], tmp_path / "links")
    assert not (moved / ROOTS).exists()
    assert (root.folder / "gen1ou").resolve() == moved / "gen1ou"


def test_the_folders_of_links_are_no_format_of_ours(replays: Path) -> None:
    write_beside(replays)
    first = (replays / DATASET_FILE).read_text()
    write_beside(replays)
    assert (replays / DATASET_FILE).read_text() == first
    assert yaml.safe_load(first)["formats"] == ["gen1ou", "gen9ou"]


def test_battles_where_nothing_can_be_linked_are_kept_with_a_warning(
    replays: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (replays / ROOTS).touch()
    write_beside(replays)
    assert not (replays / DATASET_FILE).exists()
    assert "dataset.yaml for metamon 1.6.0: no link can be made at" in caplog.text


def test_one_file_covers_the_folders_of_several_rounds(replays: Path, tmp_path: Path) -> None:
    rounds = tmp_path / "battles"
    for name in ("round-1", "round-2"):
        shutil.copytree(replays / "gen1ou", rounds / name / "gen1ou")
    write_beside(rounds, [rounds / "round-1", rounds / "round-2"])
    said = yaml.safe_load((rounds / DATASET_FILE).read_text())
    assert [entry["dir"] for entry in said["custom_replays"]] == [
        str(rounds / name / ROOTS / "gen1ou") for name in ("round-1", "round-2")
    ]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--parsed_replay_dir", "nowhere"], "no such folder: nowhere"),
        (["--parsed_replay_dir", "{}", "--formats", "gen3ou"], "holds no battle of format 'gen3ou'"),
        (["--custom_replay_dir", "{}", "--custom_replay_weight", "1.5"], "--custom_replay_sample_weight 1.5; it is a"),
        (["--custom_replay_weight", "0.5"], "--custom_replay_sample_weight 0.5 changes nothing: without --custom_rep"),
        (["--formats", "gen9ou", "--roots", "{}"], "changes nothing: metamon's own replays are no folder here"),
        (["--custom_replay_dir", "{}", "--roots", "{}/gen1ou/in_the_way"], "give --roots a folder that can be written"),
    ],
)
def test_what_metamon_could_not_read_is_refused(
    flags: list[str], complaint: str, replays: Path, capsys: pytest.CaptureFixture
) -> None:
    (replays / "gen1ou" / "in_the_way").touch()
    assert main(["configs", "dataset", *(flag.format(replays) for flag in flags)]) == 1
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.out == ""

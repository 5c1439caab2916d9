"""--ray: what does not go with it is refused before anything begins."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gemma_metamon.commands import main
from gemma_metamon.commands._cluster import _require_on_cluster
from gemma_metamon.commands._players import FoundMember, FoundPlayer
from gemma_metamon.commands._round_steps import Rounds
from gemma_metamon.errors import ConfigError, ServerError
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.showdown.search.settings import SearchSettings

COLLECT = ["collect", "--players", "RandomPlayer", "--format", "gen1ou", "--battles", "1"]
MEMBER = FoundMember(checkpoint=Checkpoint(Path("runs/first"), 1))


def test_a_server_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COLLECT, "--out", str(tmp_path / "out"), "--ray", "local", "--server", "ws://localhost:1/x"]) == 1
    assert "--ray plays in arenas on other machines, and --server on this one" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_extra_is_named_where_ray_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemma_metamon.extras.importlib.util.find_spec", lambda name: name != "ray" or None)
    assert main([*COLLECT, "--out", str(tmp_path / "out"), "--ray", "local"]) == 1
    assert "--ray needs ray; pip install 'gemma-metamon[ray]'" in capsys.readouterr().err


def test_an_address_of_rays_client_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray", reason="needs the extra: pip install 'gemma-metamon[ray]'")
    assert main([*COLLECT, "--out", str(tmp_path / "out"), "--ray", "ray://host:10001"]) == 1
    assert "--ray ray://host:10001 is the address of a Ray client; give HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "mend"),
    [
        ("local", r"Ray did not begin here \(The current node timed out\); run the command again where the machine"),
        ("auto", r"no Ray can be reached \(The current node timed out\); begin one with `ray start --head`"),
    ],
)
def test_a_ray_that_does_not_begin_is_a_sentence(
    address: str, mend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra: pip install 'gemma-metamon[ray]'")
    from gemma_metamon.cluster.connecting import connected

    def busy(**_: object) -> None:  # in place of a machine so busy that Ray gives up after its 30 seconds
        raise Exception("The current node timed out.\nThis could happen")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", busy)
    with pytest.raises(ServerError, match=rf"^--ray {address}: {mend}"), connected(address, workers=1):
        pass


@pytest.mark.parametrize(
    ("player", "why"),
    [
        (FoundPlayer(text="search(runs/first)", members=(MEMBER,), search=SearchSettings()), "searches with its agent"),
        (FoundPlayer(text="text:runs/words", words=Path("runs/words")), "is asked by players beside it"),
    ],
)
def test_who_cannot_play_in_many_processes_is_refused(player: FoundPlayer, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        _require_on_cluster(player)


def test_who_can_is_not() -> None:
    _require_on_cluster(FoundPlayer(text="LookaheadTrainer", search=SearchSettings()))
    _require_on_cluster(FoundPlayer(text="RandomPlayer", scripted="RandomPlayer"))
    _require_on_cluster(FoundPlayer(text="runs/first", members=(MEMBER,)))


def test_improve_hands_it_to_the_commands_that_play() -> None:
    args: Any = SimpleNamespace(
        out=Path("improved"), concurrency=4, workers=2, device=None, team_dir=None, ray="auto", timeout_s=60
    )
    assert Rounds(args, None)._playing_flags()[-4:] == ["--ray", "auto", "--timeout_s", "60"]

"""gemma_metamon/registry/hub.py, by huggingface_hub's own client, against a stand-in for the hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.disks import disk_with_room
from support.hub_stand_in import Hub, hub_stand_in
from support.registries import own_registry, run_files

from gemma_metamon.registry.names import VARIABLE, Reference
from gemma_metamon.registry.registry import Registry

TOKEN = "hf_" + "a" * 34


def ask(hub: Hub, *arguments: str, place: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: the client reads where the hub is when it is imported."""
    told = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if place is not None:
        told[VARIABLE] = str(place)
    command = [sys.executable, "-m", "gemma_metamon", "registry", *arguments]
    return subprocess.run(command, env=os.environ | told, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_what_is_pushed_is_pulled_elsewhere_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = own_registry(tmp_path, monkeypatch)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    registry.register("best", "agent", run_files(tmp_path / "run"), source="first@3", epoch=3)
    with hub_stand_in() as hub:
        pushed = ask(hub, "push", "best@1", "me/best", "--json")
        assert pushed.returncode == 0, pushed.stderr
        assert hub.private == {"me/best": True}
        assert hub.tokens == {f"Bearer {TOKEN}"}
        assert TOKEN not in pushed.stdout + pushed.stderr
        held = hub.repos["me/best"]["v1"]
        assert set(held) == {"README.md", "registry.json", "ckpts/epoch_3/weights.safetensors"}

        again = ask(hub, "push", "best@1", "me/best")
        assert again.returncode == 0, again.stderr
        other = Registry(str(tmp_path / "other"))
        other.register("best", "agent", run_files(tmp_path / "run2", b"others"), source="second@1", epoch=1)
        refused = ask(hub, "push", "best@1", "me/best", place=tmp_path / "other")
        assert refused.returncode == 1
        assert (
            "me/best has a tag v1 already, of best@1 from first@3, which is not best@1 from second@1" in refused.stderr
        )
        assert hub.repos["me/best"]["main"] == hub.repos["me/best"]["v1"] == held

        pulled = ask(hub, "pull", "me/best", "--revision", "v1", "--name", "theirs", place=tmp_path / "elsewhere")
        assert pulled.returncode == 0, pulled.stderr
        assert not hub.unexpected
        there = Registry(str(tmp_path / "elsewhere"))
        before, after = registry.find(Reference("best", 1)), there.find(Reference("theirs", 1))
        assert (after.files, after.kind, after.epoch) == (before.files, "agent", 3)
        assert "me/best on the hub, there best@1 from first@3" in after.source

        with disk_with_room(tmp_path / "disk", 0) as disk:
            full = ask(hub, "pull", "me/best", place=disk / "registry")
            assert full.returncode == 1
            assert "o space left on device" in full.stderr.splitlines()[-1]
            assert "Traceback" not in full.stderr
            assert not [path for path in disk.rglob("*") if path.is_file() and path.name not in ("filler", ".lock")]

        held["ckpts/epoch_3/weights.safetensors"] = b"others!"
        damaged = ask(hub, "pull", "me/best", place=tmp_path / "elsewhere")
        assert damaged.returncode == 1
        assert "weights.safetensors of me/best is damaged" in damaged.stderr
        told = json.loads(held["registry.json"])
        told["files"]["../../evil.py"] = told["files"].pop("README.md")
        held["registry.json"] = json.dumps(told).encode()
        hostile = ask(hub, "pull", "me/best", place=tmp_path / "elsewhere")
        assert hostile.returncode == 1
        assert "no name of a file beneath a run's folder" in hostile.stderr

        with monkeypatch.context() as patched:
            patched.setitem(globals(), "TOKEN", f"{TOKEN}\udcff")
            unsent = ask(hub, "pull", "me/best")
        assert unsent.returncode == 1
        assert "holds characters that no token has" in unsent.stderr
        assert "hf_" not in unsent.stderr

        missing = ask(hub, "pull", "me/nothing")
        assert missing.returncode == 1
        assert "me/nothing" in missing.stderr
        assert missing.stderr.count("\n") == 1
    gone = ask(hub, "push", "best@1", "me/best")
    assert gone.returncode == 1
    assert "me/best" in gone.stderr.splitlines()[-1]
    assert "Traceback" not in gone.stderr
    assert there.versions("theirs") == [1]
    assert there.names() == ["theirs"]

"""A stage of a registry is looked up once: what is promoted later changes nothing for a command that began before."""

from pathlib import Path

import pytest
from support.registries import own_registry, run_files
from support.small_agent import train_command

from gemma_metamon.commands import build_parser
from gemma_metamon.commands._arguments import fetch_registered
from gemma_metamon.errors import MissingFileError
from gemma_metamon.registry.names import Reference
from gemma_metamon.registry.registry import Registry, pinned


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    return own_registry(tmp_path, monkeypatch)


def register(registry: Registry, tmp_path: Path, said: bytes = b"weights") -> None:
    registry.register("best", "agent", run_files(tmp_path / "run", said), source="first@3", epoch=3)


def test_a_pinned_text_names_the_version_that_is_in_a_stage_of_that_registry(
    registry: Registry, tmp_path: Path
) -> None:
    place = str(tmp_path / "elsewhere")
    for said in (b"one", b"two"):
        register(Registry(place), tmp_path, said)
    register(registry, tmp_path)
    Registry(place).promote(Reference("best", 2), "production")
    for text, expected in {
        "registry:best@production": "registry:best@2",
        "text:registry:best@1@T0.5": "text:registry:best@1@T0.5",
        "ensemble(vote: registry:best@production*2, runs/first@3)": "ensemble(vote: registry:best@2*2, runs/first@3)",
        "runs/registry:best@production": "runs/registry:best@production",
        "RandomPlayer": "RandomPlayer",
    }.items():
        assert pinned(text, place) == expected
    with pytest.raises(MissingFileError, match="no version of best is in production"):
        pinned("registry:best@production")


def test_what_is_promoted_after_a_command_began_is_not_taken(registry: Registry, tmp_path: Path) -> None:
    for said in (b"one", b"two"):
        register(registry, tmp_path, said)
    registry.promote(Reference("best", 1), "production")
    best, run = "registry:best@production", str(tmp_path / "run")
    train = train_command(tmp_path, "--init_from", best, "--eval_gens", "--eval_opponents", "RandomPlayer", best)
    args = build_parser().parse_args(train)
    fetch_registered(args)
    registry.promote(Reference("best", 2), "production")
    assert (args.init_from, args.eval_opponents) == ("registry:best@1", ["RandomPlayer", "registry:best@1"])
    assert (args.run_name, str(args.save_dir)) == ("run", str(tmp_path))
    args = build_parser().parse_args(["registry", "show", "registry:best@staging", "--registry", f"{tmp_path}/none"])
    with pytest.raises(MissingFileError, match="none has no model best"):
        fetch_registered(args)
    args = build_parser().parse_args(["export", "--run_dir", best, "--to", "merged", "--out", run])
    fetch_registered(args)
    assert args.run_dir.name == "best-v2"

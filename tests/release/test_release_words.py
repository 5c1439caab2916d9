"""Models that answer in words, from their training to production: registered, named as players, served, released."""

import json
import shutil
from pathlib import Path

import pytest
from support.chats import chats_of, write_chats
from support.registries import own_registry
from support.seen_battles import bundled
from support.served import ask
from support.small_agent import BACKBONE

from gemma_metamon.commands import build_parser, main
from gemma_metamon.commands.serve import _service
from gemma_metamon.language.models import chat_model as models
from gemma_metamon.registry.names import Reference
from gemma_metamon.serving.limits import Gate, Limits
from gemma_metamon.serving.server import serving

for package, extra in (("poke_env", "battle"), ("trl", "language"), ("fastapi", "serve"), ("PIL", "vision")):
    pytest.importorskip(package, reason=f"needs the extra: pip install 'gemma-metamon[{extra}]'")
pytestmark = [pytest.mark.slow, pytest.mark.server]

GATES = """
exports = ["merged"]
[latency_ms]
median = 600000
[memory]
peak_mib = 100000
[[opponents]]
player = "RandomPlayer"
battles = 4
above = 0.0
"""
FEW = ["--max_updates", "1", "--batch_size", "4", "--generated", "0", "--warmup_updates", "0", "--device", "cpu"]
LABELS = {"text": "text:", "vision": "vlm:"}


def trained(kind: str, folder: Path) -> Path:
    """A run of one update."""
    if kind == "text":
        data = write_chats(folder / "chats.jsonl", chats_of(most=8))
        command = ["sft", "--data", str(data), "--val", str(data)]
    else:
        (folder / "battles/gen1ou").mkdir(parents=True)
        shutil.copy(bundled("gen1ou", 1)[0], folder / "battles/gen1ou")
        export = ["vlm", "export", "--parsed_replay_dir", str(folder / "battles"), "--out", str(folder / "seen")]
        assert main([*export, "--size", "112", "--workers", "1", "--frames", "single", "--subset", "8"]) == 0
        data = folder / "seen/dataset.jsonl"
        command = ["vlm", "train", "--data", str(data), "--val", str(data)]
    assert main([*command, "--out", str(folder / "mine"), *FEW]) == 0
    return folder / "mine"


@pytest.mark.parametrize("kind", LABELS)
def test_a_chat_model_is_registered_promoted_named_served_and_released(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = own_registry(tmp_path, monkeypatch)
    monkeypatch.setattr(models, "TINY_CONFIG", BACKBONE | {"max_position_embeddings": 4096})
    run = f"{LABELS[kind]}{trained(kind, tmp_path)}"
    # one Pokémon a side: battles of seconds
    (tmp_path / "teams").mkdir()
    for name in ("Snorlax", "Tauros"):
        team = f"{name}\n- Body Slam\n- Hyper Beam\n- Earthquake\n- Surf\n"
        (tmp_path / "teams" / f"{name}.gen1ou_team").write_text(team.replace("- Surf", "- Blizzard"))
    short = ["--team_dir", str(tmp_path / "teams"), "--workers", "1", "--device", "cpu", "--json"]

    def told(*command: str) -> dict:
        capsys.readouterr()
        assert main(command) == 0
        said: dict = json.loads(capsys.readouterr().out)
        return said

    evaluate = ["evaluate", "--opponents", "RandomPlayer", "--battles", "1", "--format", "gen1ou", *short]
    league = told(*evaluate, "--players", f"{run}@1", "--out", str(tmp_path / "league"))
    assert league["contestants"][0]["name"] == f"{LABELS[kind]}mine@1"

    # the wrong kind is refused in one sentence
    other = run.replace(*(LABELS.values() if kind == "text" else list(LABELS.values())[::-1]))
    assert main(["registry", "register", other, "--name", "words"]) == 1
    assert f"write {LABELS[kind]}" in capsys.readouterr().err
    assert main(["registry", "register", run.removeprefix(LABELS[kind]), "--name", "words"]) == 1
    assert "holds a chat model; write text:" in capsys.readouterr().err

    for epoch in (0, 1):
        results = ["--results", str(tmp_path / "league")] if epoch else []
        said = told("registry", "register", f"{run}@{epoch}", "--name", "words", *results, "--json")
        assert said["version"] == epoch + 1
    for version in (1, 2):
        told("registry", "promote", f"words@{version}", "production", "--json")
    told("registry", "rollback", "words", "production", "--json")
    assert registry.find(Reference("words", "production")).version == 1
    told("registry", "promote", "words@2", "production", "--json")
    shown = told("registry", "show", "words@production", "--json")
    assert (shown["kind"], shown["source"], shown["stages"]) == (kind, "mine@1", ["production"])
    card = (registry.fetch(registry.find(Reference("words", 2))) / "README.md").read_text(encoding="utf-8")
    low, high = league["pairs"][0]["interval_95"]
    for line in (
        f"| gen1ou | RandomPlayer | 1 | {league['pairs'][0]['win_rate']:.1%} | {low:.1%} to {high:.1%} | 0 |",
        "| perplexity |",
        "| epoch | 1 |",
        "| max updates | 1 |",
        "hold nothing of Google's Gemma",
        f'--players "{LABELS[kind]}registry:words@VERSION"',
    ):
        assert line in card

    named = told(*evaluate, "--players", "registry:words@production")
    assert named["contestants"][0]["name"] == f"{LABELS[kind]}words-v2@1"
    same = ("battles", "wins", "losses", "ties", "mean_turns")
    assert [named["pairs"][0][key] for key in same] == [league["pairs"][0][key] for key in same]

    args = build_parser().parse_args(["serve", "registry:words@production", "--device", "cpu", "--name", "words"])
    with serving(_service(args, Gate(Limits()))) as url:
        body = {"model": "words", "messages": [{"role": "user", "content": "What?"}], "max_tokens": 2}
        status, answer = ask(f"{url}/v1/chat/completions", body)
    assert status == 200, answer

    release = ["release", "--gates", str(tmp_path / "gates.toml"), *short, run, "--promote", "words"]
    # one battle of four is to be won, which is not if all are lost: then others are drawn
    for seed in range(8):
        (tmp_path / "gates.toml").write_text(f"seed = {seed}\n{GATES}")
        capsys.readouterr()
        status = main([*release, "--out", str(tmp_path / f"out{seed}")])
        report = json.loads(capsys.readouterr().out)
        passed = {row["name"]: row["passed"] for row in report["rows"]}
        if passed.pop("against RandomPlayer"):
            break
    assert (status, set(passed.values())) == (0, {True}), report["rows"]
    assert passed.keys() == {"loads", "secrets", "export, merged", "refused choices", "latency, median", "memory"}
    assert report["promoted"] == "words@3 production"
    assert registry.versions("words") == [1, 2, 3]

"""Models that see: scored exactly, trained, merged, and played."""

import base64
import io
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.pages import Page, loads
from support.seen_battles import bundled, read_by, sprite

from gemma_metamon.battle.replays import RecordedBattle, load_battle
from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError
from gemma_metamon.explain.page import Explanation, render_page
from gemma_metamon.language.data.choosing import Wording
from gemma_metamon.language.data.filters import Counts, Filters
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.models.held_out import answer_loss
from gemma_metamon.language.models.scoring import ChoiceScorer
from gemma_metamon.vision.chats import encode, read_seen
from gemma_metamon.vision.forms import Form, read_form
from gemma_metamon.vision.models import SeeingModel, SeeingPlan, build, open_picture
from gemma_metamon.vision.players.followed import follow_by_sight
from gemma_metamon.vision.players.seeing import SeeingPolicy
from gemma_metamon.vision.rows import PictureChooser, user_message
from gemma_metamon.vision.scenes.grid import Layout
from gemma_metamon.vision.scenes.sprites import Sprites

SMALL = ("--size", "112", "--workers", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of few rows, and one held out."""
    root = tmp_path_factory.mktemp("seen")
    (root / "battles/gen1ou").mkdir(parents=True)
    for path in bundled("gen1ou", 4):
        shutil.copy(path, root / "battles/gen1ou")
    export = ["vlm", "export", "--parsed_replay_dir", str(root / "battles"), "--out", str(root / "seen")]
    assert main([*export, *SMALL, "--val_share", "0.5", "--subset", "40"]) == 0
    return root / "seen"


def test_scores_are_those_of_each_answer_alone(data: Path) -> None:
    seen, form = read_seen(data / "dataset.jsonl"), read_form(data)
    model = build(SeeingPlan(), form, [text for each in seen for text in each.texts])
    model.model.eval()
    examples, too_long = encode(model, seen[:3], 4096)
    assert too_long == 0
    scorer = ChoiceScorer(model)
    answers = [scorer.answer_ids(each.chat.legal) for each in examples]
    together = scorer.score_ids([each.prompt for each in examples], answers, model.pixels_of(examples))
    for example, own, found in zip(examples, answers, together, strict=True):
        same_end = next(n for n in range(99) if len({answer[-1 - n] for answer in own}) > 1)
        cut = [answer[: len(answer) - same_end + 1] for answer in own]
        (pixels,) = model.pixels_of([example])
        losses = []
        for answer in cut:
            ids = torch.tensor([example.prompt + answer])
            labels = torch.tensor([[-100] * len(example.prompt) + answer])
            losses.append(answer_loss(model.gemma, model.inputs_of(ids, [pixels]), labels)[0].detach())
        np.testing.assert_allclose(found, torch.log_softmax(-torch.stack(losses), 0), rtol=0, atol=1e-4)
    assert len({tuple(found[:2]) for found in together}) > 1


def test_a_prompt_is_what_the_processor_makes_of_it(data: Path) -> None:
    seen, form = read_seen(data / "dataset.jsonl"), read_form(data)
    model = build(SeeingPlan(), form, [text for each in seen for text in each.texts])
    message = user_message(1, seen[0].texts[0])
    picture = open_picture(seen[0].pictures[0])
    theirs = read_by(model.processor, [message], [picture], prompt=True)
    ids = torch.tensor([model.prompt_ids([message])])
    ours = model.inputs_of(ids, [model.look([picture])])
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=0)


@pytest.mark.parametrize("layout", ["grid", "four"])
def test_a_player_is_shown_what_training_showed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundled("gen1ou", 1)[0]
    battle, form = load_battle(path), Form(layout=layout, size=112)
    chooser = PictureChooser(form.showing, Filters(keep_forced=True), Wording(), 0)
    rows = {
        row["decision"]: row for row in (json.loads(each.text) for each in chooser.rows(battle, path.name, Counts()))
    }
    model = build(SeeingPlan(), form, [rows[0]["question"]])
    model.model.eval()
    policy = SeeingPolicy(model, name="vlm:small")
    session = policy.open_session()
    for t, decision in enumerate(list(recorded_decisions(battle))[:9]):
        legal = np.isin(np.arange(13), list(decision.choices))
        session.decision(decision.state, legal)
        again = session.decision(decision.state, legal)  # asked a second time, as after a refusal
        asked = policy.ask(again, session)
        if t in rows:
            assert asked.messages == [rows[t]["messages"][0]]
            assert [json.loads(json.dumps(asdict(picture))) for picture in asked.pictures] == rows[t]["pictures"]
            assert list(asked.choices.values()) == rows[t]["legal"]
        session.note(decision.state, next(iter(decision.choices)))
    (found,) = policy.answer([asked])
    assert found is not None
    assert np.exp(found.scores).sum() == pytest.approx(1, abs=1e-4)
    monkeypatch.setattr(SeeingModel, "context", 30)
    assert policy.answer([asked]) == [None]


def test_sprites_are_those_that_it_was_trained_on_wherever_they_lie(tmp_path: Path) -> None:
    sprite(tmp_path / "own", "starmie.png")
    sprite(tmp_path / "moved", "starmie.png")
    sprite(tmp_path / "others", "starmie.png", (20, 20))
    form = Form(layout="single", size=112, sprites=Sprites(tmp_path / "own").mark)
    model = build(SeeingPlan(), form, ["What wins?"])
    SeeingPolicy(model, name="vlm:small", sprites=tmp_path / "moved")
    for folder, why in ((None, "none are given"), (tmp_path / "others", "those of .*others are others")):
        with pytest.raises(ConfigError, match=rf"vlm:small was trained on sprites, and {why}; name their folder"):
            SeeingPolicy(model, name="vlm:small", sprites=folder)
    model.form = replace(form, sprites=None)
    with pytest.raises(ConfigError, match="vlm:small was trained without sprites; leave out sprites="):
        SeeingPolicy(model, name="vlm:small", sprites=tmp_path / "own")


def test_a_page_shows_what_it_sees_and_how_probable_each_choice_is() -> None:
    whole = load_battle(bundled("gen1ou", 1)[0])
    battle = RecordedBattle(whole.states[:5], (*whole.actions[:4], -1))
    form = Form(layout="four", size=56 * 2)
    model = build(SeeingPlan(), form, ["What wins?"])
    model.model.eval()
    policy = SeeingPolicy(model, name="vlm:small")
    decisions = list(follow_by_sight(policy, battle))
    session, recorded = policy.open_session(), list(recorded_decisions(battle))
    for shown, decision in zip(decisions, recorded, strict=True):
        session.last.append(decision)
        asked = policy.ask(decision, session)
        (found,) = policy.answer([asked])
        assert found is not None
        own = [option.probability for option in shown.options if option.action in decision.choices]
        np.testing.assert_allclose(own, np.exp(found.scores), rtol=0, atol=1e-5)
        assert shown.subwords == len(model.prompt_ids(asked.messages))
        seen = [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in shown.pictures]
        expected = [policy.draw(picture) for picture in asked.pictures]
        assert [image.tobytes() for image in seen] == [image.tobytes() for image in expected]
    html = render_page(
        Explanation(
            battle="b",
            battle_format="gen1ou",
            player="Ann",
            opponent="Bob",
            agent="vlm:small",
            result="won",
            setting=None,
            decisions=decisions,
        )
    )
    assert loads(html) == []
    assert [image.attributes["alt"] for image in Page(html).all("img")][:4] == [
        f"what it sees at t={t}" for t in range(4)
    ]
    assert len(Page(html).all("img")) == 4 * len(decisions)


@pytest.mark.server
def test_it_is_trained_merged_and_plays(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train = ["vlm", "train", "--data", str(data / "dataset.jsonl"), "--val", str(data / "dataset.validation.jsonl")]
    train += ["--out", str(tmp_path / "eyes"), "--max_updates", "3", "--batch_size", "4", "--generated", "2", "--json"]
    assert main(train) == 0
    trained: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert trained["updates"] == 3
    assert trained["measured"]["decisions"] > 0
    assert main(["vlm", "merge", "--run", str(tmp_path / "eyes"), "--out", str(tmp_path / "plain"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["largest_difference"] <= 1e-4
    command = ["evaluate", "--format", "gen1ou", "--battles", "1", "--opponents", "MaxBasePowerPlayer", "--json"]
    assert main([*command, "--players", f"vlm:{tmp_path / 'eyes'}", f"vlm:{tmp_path / 'plain'}"]) == 0
    report = json.loads(capsys.readouterr().out)
    names = [row["name"] for row in report["contestants"] if row["kind"] == "text"]
    assert names == ["vlm:eyes@1", "vlm:plain"]
    first, second = (pair for pair in report["pairs"] if "vlm:" in json.dumps(pair))
    assert first["legal_rate"] == second["legal_rate"] == 1

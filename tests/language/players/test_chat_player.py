"""Chat models as players, over real HTTP: what they are told, what comes of each answer, and what of none."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.node import needs_node

pytest.importorskip("openai", reason="needs the extra: pip install 'gemma-metamon[language]'")

from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_endpoint import Endpoint, Reply, Told, completion, endpoint, first_choice
from support.paths import BATTLE_FILES

from gemma_metamon.battle.replays import dump_battle, load_battle, parse_battle
from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError, DataError, ServerError
from gemma_metamon.language.players import endpoint as module
from gemma_metamon.language.players.chat import chat_model
from gemma_metamon.language.players.settings import ChatSettings
from gemma_metamon.showdown.matches.collect import Matchup, collect
from gemma_metamon.showdown.matches.evaluate import Evaluation, evaluate
from gemma_metamon.showdown.players.contestants import Contestant, scripted
from gemma_metamon.showdown.simulator.teams import load_teams

pytestmark = needs_node
KEY = "sk-test-0123456789abcdef"
TEAMS = ["]".join(team.split("]")[:2]) for team in load_teams("gen1ou")[:2]]
"""Of two Pokémon, so that battles are short."""


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def model_at(here: Endpoint, **options: Any) -> Contestant:
    return chat_model(ChatSettings(model="tiny", url=here.url, **options))


def fight(player: Contestant, battles: int = 1, **options: Any) -> Evaluation:
    pairs = [(player, scripted("RandomPlayer"))]
    return asyncio.run(evaluate(pairs, battles, battle_format="gen1ou", teams=TEAMS, **options))


def row(player: Contestant) -> Any:
    assert player.chat is not None
    return player.chat.row()


def refused(answer: Callable[[Told], Reply], **options: Any) -> str:
    """What is said of an endpoint before any battle."""
    with endpoint(answer) as here, pytest.raises(ServerError) as raised:
        model_at(here, retries=0, **options)
    assert here.url in str(raised.value)
    assert KEY not in str(raised.value)
    assert "\n" not in str(raised.value)
    return str(raised.value).partition(f"{here.url}(retries=0) ")[2]


def in_battle(answer: Callable[[Told], Reply]) -> Callable[[Told], Reply]:
    """These answers after the greeting."""
    return lambda told: "ready" if told.is_greeting else answer(told)


def test_a_chat_model_plays_a_battle_and_its_thoughts_are_recorded(tmp_path: Path) -> None:
    with endpoint() as here:
        player = model_at(here)
        matchups = [Matchup(player=player, opponent=scripted("RandomPlayer"), battles=1)]
        collected = asyncio.run(collect(matchups, battle_format="gen1ou", teams=TEAMS, out=tmp_path, seed=3))
    assert (collected.battles, collected.files, collected.unfinished) == (1, 2, None)
    (mine,) = tmp_path.glob("gen1ou/*_chat*_vs_*")
    (theirs,) = tmp_path.glob("gen1ou/*_Random*_vs_*")
    battle, other = load_battle(mine), load_battle(theirs)
    assert other.thoughts is None
    assert battle.thoughts is not None
    assert battle.thoughts[-1] is None
    asked = [told for told in here.calls if not told.is_greeting]
    assert [thought for thought in battle.thoughts if thought] == [f"I like {told.choices[0]}." for told in asked]
    forced = len(battle.states) - 1 - len(asked)
    assert battle.thoughts.count("") == forced
    taken = row(player)
    assert (taken.decisions, taken.calls, taken.repairs, taken.fallbacks) == (len(asked), len(asked) + 1, 0, {})
    assert taken.prompt_tokens > 20 * len(asked)
    assert asked[0].key == f"Bearer {KEY}"
    assert asked[0].path == "/v1/chat/completions"


def test_an_illegal_answer_is_sent_back_with_the_reason_and_then_read() -> None:
    told_why = []

    def mend(told: Told) -> Reply:
        if len(told.messages) == 2:
            return "<SOLUTION>move Splash of the Sea</SOLUTION>"
        told_why.append(told.messages[-1]["content"])
        assert told.messages[-2]["role"] == "assistant"
        return f"<SOLUTION>{told.choices[-1].upper()}</SOLUTION>"

    with endpoint(in_battle(mend)) as here:
        player = model_at(here, reasoning=False)
        evaluation = fight(player)
    taken = row(player)
    assert evaluation.battles == 1
    assert taken.repairs == taken.decisions == len(told_why) > 0
    assert taken.calls == 2 * taken.decisions + 1
    assert taken.fallbacks == {}
    assert "is no choice here; choose one of" in told_why[0]
    assert evaluation.pairs[0].players.choices.refused == 0


def test_who_never_answers_with_a_choice_has_legal_ones_made_for_it(tmp_path: Path) -> None:
    with endpoint(in_battle(lambda told: "I would say: Earthquake!")) as here:
        player = model_at(here)
        matchups = [Matchup(player=player, opponent=scripted("RandomPlayer"), battles=1, record_opponent=False)]
        asyncio.run(collect(matchups, battle_format="gen1ou", teams=TEAMS, out=tmp_path))
    taken = row(player)
    assert taken.fallbacks == {"no legal answer": taken.decisions}
    (path,) = tmp_path.glob("gen1ou/*")
    thoughts = load_battle(path).thoughts
    assert thoughts is not None
    assert thoughts.count(None) == taken.decisions + 1  # of none of these choices could a model learn from it


def test_what_a_model_thinks_apart_from_its_answer_is_its_thought(tmp_path: Path) -> None:
    def think(told: Told) -> Reply:
        answer = f"<SOLUTION>{told.choices[0]}</SOLUTION>"
        if len(here.calls) % 2:
            return f"<think>in the answer</think>\n{answer}"
        return completion(answer, told, reasoning_content="beside <SOLUTION> it" if len(here.calls) % 4 else "beside")

    with endpoint(in_battle(think)) as here:
        player = model_at(here)
        matchups = [Matchup(player=player, opponent=scripted("RandomPlayer"), battles=1, record_opponent=False)]
        asyncio.run(collect(matchups, battle_format="gen1ou", teams=TEAMS, out=tmp_path))
    (path,) = tmp_path.glob("gen1ou/*")
    # of a thought that would break the form of an answer nothing is kept
    assert set(load_battle(path).thoughts or ()) == {"in the answer", "beside", "", None}
    assert row(player).repairs == 0


def test_what_an_endpoint_cannot_be_asked_is_one_sentence_before_any_battle() -> None:
    quota = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}})
    said = refused(lambda told: (401, quota, {}))
    assert said == "refuses the key in OPENAI_API_KEY (401); put one there that it takes"
    page = refused(lambda told: (200, "<html>Welcome</html>", {"Content-Type": "text/html"}))
    assert page.startswith("answers with a page, as no chat endpoint does; the address ends before /chat/completions")
    assert "is no JSON" in refused(lambda told: (200, "ready", {}))
    assert 'no chat completion, {"answer": 42}' in refused(lambda told: {"answer": 42})
    assert "no chat completion" in refused(lambda told: {"choices": [None]})
    assert "(500: out of ideas)" in refused(lambda told: (500, '{"error": {"message": "out of ideas"}}', {}))
    assert "(429: slower)" in refused(lambda told: (429, "slower", {}))
    assert "(404:" in refused(lambda told: (404, '{"error": "no such model"}', {}))
    assert "cuts the connection" in refused(lambda told: None)
    assert "[key]" in refused(lambda told: (400, quota, {}))


def test_an_endpoint_that_hangs_is_given_up_after_its_time() -> None:
    def hang(told: Told) -> Reply:
        here.released.wait(60)
        return "ready"

    with endpoint(hang) as here, pytest.raises(ServerError, match=r"did not answer within 0\.5 s"):
        model_at(here, timeout_s=0.5)


def test_an_endpoint_that_is_not_there_is_said_to_be_so() -> None:
    with endpoint() as here:
        pass
    with pytest.raises(ServerError, match="cannot be reached, or cuts the connection"):
        model_at(here, retries=0)


def test_a_call_refused_for_now_is_tried_again_no_sooner_than_it_may_be() -> None:
    refusals: dict[int, Reply] = {
        1: (429, "{}", {"Retry-After": "1"}),
        2: (503, "{}", {"Retry-After": "0.1"}),
        5: None,  # of the battle's calls the second
    }

    def later(told: Told) -> Reply:
        return refusals.get(len(here.calls), first_choice(told))

    with endpoint(later) as here:
        player = model_at(here, retries=3)
        first, second, *_ = here.calls
        assert second.at - first.at >= 0.95
        assert len(here.calls) == 3  # the first call has two more tries
        fight(player)
    taken = row(player)
    assert taken.retries == 3
    assert taken.calls == len(here.calls)
    assert taken.fallbacks == {}


def test_an_endpoint_that_fails_for_good_costs_no_battle_that_was_begun() -> None:
    def fail(told: Told) -> Reply:
        return first_choice(told) if len(here.calls) < 20 else (500, "gone", {})

    with endpoint(fail) as here:
        player = model_at(here, retries=0)
        evaluation = fight(player, battles=6, concurrency=2)
    taken = row(player)
    assert 1 <= evaluation.battles < 6  # those in play then are played to their end
    assert "fails (500: gone)" in (evaluation.unfinished or "")
    assert taken.fallbacks["no answer"] >= module.PATIENCE
    assert taken.fallbacks["not asked any more"] > 0
    assert taken.decisions > taken.fallbacks["no answer"] + taken.fallbacks["not asked any more"]


@pytest.mark.parametrize("bound", [{"max_calls": 3}, {"max_tokens": 120}])
def test_a_bound_ends_the_calls_and_the_battle_goes_on_without_them(bound: dict[str, int]) -> None:
    with endpoint() as here:
        player = model_at(here, at_once=1, **bound)
        evaluation = fight(player, battles=4, concurrency=1)
    taken = row(player)
    ((name, most),) = bound.items()
    assert evaluation.battles == 1
    assert evaluation.unfinished == f"{player.name} has taken its {name}={most}"
    assert taken.ended == evaluation.unfinished
    assert taken.fallbacks == {"not asked any more": taken.decisions - taken.calls + 1}
    if name == "max_calls":
        assert len(here.calls) == taken.calls == most
    else:
        last = len(here.calls[-1].messages[1]["content"].split()) + 30
        assert most <= taken.prompt_tokens + taken.completion_tokens <= most + last


@pytest.mark.server
def test_a_ladder_that_a_bound_ends_says_so_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("gemma_metamon.showdown.simulator.server.background_servers", list)
    command = ["ladder", "--server", "local", "--username", "Anna", "--sparring", "NoSwitchRandomPlayer", "--json"]
    with endpoint() as here:
        player = f"chat:tiny@{here.url}(max_calls=4)"
        assert main([*command, "--player", player, "--battles", "3", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert f"gemma-metamon ladder: 1 of 3 battles were played; {player} has taken its max_calls=4" in said.err
    assert json.loads(said.out)["this_run"]["battles"] == 1


def test_tokens_that_nobody_counts_cannot_be_bounded() -> None:
    def uncounted(told: Told) -> Reply:
        return {**completion("ready", told), "usage": None}

    with endpoint(uncounted) as here:
        with pytest.raises(ConfigError, match="does not say how many tokens"):
            model_at(here, max_tokens=100)
        assert row(model_at(here)).prompt_tokens == 0


def test_models_that_bound_their_answers_otherwise_are_asked_otherwise() -> None:
    def picky(told: Told) -> Reply:
        if "max_tokens" in told.body:
            message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return 400, json.dumps({"error": {"message": message}}), {}
        return first_choice(told)

    with endpoint(picky) as here:
        player = model_at(here, answer_tokens=77, temperature=0.5)
        fight(player)
    assert here.calls[-1].body["max_completion_tokens"] == 77
    assert here.calls[-1].body["temperature"] == 0.5
    assert row(player).fallbacks == {}


def test_no_more_calls_are_under_way_than_may_be() -> None:
    def slow(told: Told) -> Reply:
        time.sleep(0.01)
        return first_choice(told)

    with endpoint(slow) as here:
        fight(model_at(here, at_once=2), battles=6, concurrency=6)
    assert here.most_at_once == 2


def test_the_key_is_not_carried_to_where_an_endpoint_points() -> None:
    with endpoint() as elsewhere:
        place = {"Location": f"{elsewhere.url}/chat/completions"}
        with endpoint(lambda _: (307, "", place)) as here:
            model_at(here, retries=0)
    assert [told.key for told in here.calls] == [f"Bearer {KEY}"]
    assert [told.key for told in elsewhere.calls] == [""]


def test_the_key_is_in_nothing_that_is_said_or_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The endpoint repeats it in its answers and its errors."""
    caplog.set_level(logging.DEBUG)

    def chatter(told: Told) -> Reply:
        if told.is_greeting:
            return f"ready, {told.key}"
        n = len(here.calls)
        if n % 3 == 0:
            return 400, json.dumps({"error": {"message": f"I do not like {told.key}"}}), {"X-Key": KEY}
        if n % 3 == 1:
            return f"{told.key} {KEY}"
        return f"<REASONING>my key is {KEY}</REASONING><SOLUTION>{told.choices[0]}</SOLUTION>"

    with endpoint(chatter) as here:
        text = f"chat:tiny@{here.url}"
        common = ["--battles", "1", "--format", "gen1ou"]
        against = ["--opponents", "RandomPlayer"]
        league = ["--out", str(tmp_path / "league")]
        assert main(["evaluate", "--players", text, *against, *common, *league]) == 0
        assert (
            main(["collect", "--players", text, *against, *common, "--out", str(tmp_path / "battles"), "--json"]) == 0
        )
    said = capsys.readouterr()
    assert KEY in here.calls[-1].key
    for words in (said.out, said.err, caplog.text):
        assert KEY not in words
    assert "made for it" in said.out
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".png"]
    assert {path.suffix for path in files} >= {".json", ".jsonl", ".log", ".html", ".lz4"}
    for path in files:
        content = repr(load_battle(path).thoughts) if path.suffix == ".lz4" else path.read_text(encoding="utf-8")
        assert KEY not in content, path
        if path.suffix == ".lz4":
            assert "my key is [key]" in content


def test_what_a_chat_model_plays_becomes_chat_data_with_its_reasoning(tmp_path: Path) -> None:
    """Collected, exported and read again: a teacher's choices with its words, and none that were made for it."""

    def teach(told: Told) -> Reply:
        return "I cannot say" if len(here.calls) in (3, 4) else first_choice(told)

    with endpoint(in_battle(teach)) as here:
        text = ["--players", f"chat:tiny@{here.url}", "--opponents", "RandomPlayer", "--format", "gen1ou"]
        assert main(["collect", *text, "--battles", "1", "--out", str(tmp_path / "played")]) == 0
    out = tmp_path / "lessons.jsonl"
    export = ["chat", "export", "--parsed_replay_dir", str(tmp_path / "played"), "--out", str(out)]
    assert main([*export, "--reasoning", "recorded", "--keep_duplicates"]) == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    (path,) = tmp_path.glob("played/gen1ou/*.json.lz4")
    thoughts = load_battle(path).thoughts or ()
    assert thoughts[:-1].count(None) == 1
    assert len(rows) > 5
    for lesson in rows:
        thought = thoughts[lesson["decision"]]
        assert thought is not None
        answer = f"<REASONING>{thought}</REASONING><SOLUTION>{lesson['choice']}</SOLUTION>"
        assert lesson["messages"][-1] == {"role": "assistant", "content": answer}
        assert thought == f"I like {lesson['choice']}."


def test_a_tiny_gemma_behind_an_endpoint_plays() -> None:
    """Random weights, so that its free answers are noise: each is repaired by an answer that a test writes."""
    torch = pytest.importorskip("torch")
    from support.small_agent import BACKBONE
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    gemma = Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=256, **BACKBONE)).eval()

    def generate(told: Told) -> Reply:
        if told.is_greeting or len(told.messages) > 2:
            return first_choice(told)
        ids = torch.tensor([list(told.messages[-1]["content"].encode()[-64:])])
        with torch.inference_mode():
            made = gemma.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None)
        return bytes(made[0, ids.shape[1] :].tolist()).decode("latin-1")

    with endpoint(generate) as here:
        player = model_at(here)
        evaluation = fight(player)
    taken = row(player)
    assert evaluation.battles == 1
    assert taken.repairs == taken.decisions > 0
    assert taken.fallbacks == {}


@given(st.data())
@settings(max_examples=25)
def test_thoughts_are_read_as_they_are_written(data: st.DataObject) -> None:
    battle = load_battle(next(path for path in BATTLE_FILES if "edge" not in str(path)))
    n = len(battle.states)
    thought = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
    thoughts = (*data.draw(st.lists(thought, min_size=n - 1, max_size=n - 1)), None)
    spoken = replace(battle, thoughts=thoughts)
    assert parse_battle(dump_battle(spoken)) == spoken
    assert parse_battle(dump_battle(battle)).thoughts is None


@pytest.mark.parametrize(
    ("thoughts", "reason"),
    [("why", "expected a list"), ([1], "a thought is a text, or null"), (["a"], "a battle has one per state")],
)
def test_thoughts_that_are_none_are_refused(thoughts: Any, reason: str) -> None:
    battle = load_battle(next(path for path in BATTLE_FILES if "edge" not in str(path)))
    content = json.loads(dump_battle(battle)) | {"thoughts": thoughts}
    with pytest.raises(DataError, match=reason):
        parse_battle(json.dumps(content).encode())

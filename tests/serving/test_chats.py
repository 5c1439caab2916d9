"""Models that write, served as OpenAI's clients ask them: they answer what they answer here, and play."""

import asyncio
import base64
import io
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.node import needs_node

pytest.importorskip("fastapi", reason="needs the extra: pip install 'gemma-metamon[serve]'")
pytest.importorskip("openai", reason="needs the extra: pip install 'gemma-metamon[language]'")

import openai
from support.chats import chats_of, small_model
from support.served import ask, served

from gemma_metamon.language.data.chats import PromptForm
from gemma_metamon.language.models.chat_model import ChatModel
from gemma_metamon.language.models.held_out import generate
from gemma_metamon.language.models.scoring import ChoiceScorer
from gemma_metamon.language.players.chat import chat_model
from gemma_metamon.language.players.settings import ChatSettings
from gemma_metamon.language.players.text import TextPolicy
from gemma_metamon.language.tokenizers import encode_prompts
from gemma_metamon.serving import writing
from gemma_metamon.serving.writing import Writer
from gemma_metamon.showdown.matches.evaluate import evaluate
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.teams import load_teams

CHATS = chats_of(most=6)
MESSAGES = [chat.messages[:-1] for chat in CHATS]
PIXEL = "data:image/png;base64,AAAA"
"""Not even looked at by what does not see."""


@pytest.fixture(scope="module")
def model() -> ChatModel:
    with pytest.MonkeyPatch.context() as patch:
        return small_model(patch, CHATS)


def policy_of(model: ChatModel) -> TextPolicy:
    return TextPolicy(ChoiceScorer(model), PromptForm(history=0), name="text:small")


def test_answers_are_the_models_own_alone_and_together(model: ChatModel) -> None:
    prompts = encode_prompts(model.tokenizer, MESSAGES)
    expected = [generate(model, [prompt], 12)[0] for prompt in prompts]
    with served(policy_of(model)) as (url, service), ThreadPoolExecutor(6) as pool:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        assert [each.id for each in client.models.list()] == ["tiny"]

        def answer(messages: Any) -> Any:
            return client.chat.completions.create(model="tiny", messages=messages, max_tokens=12, temperature=0)

        answers = list(pool.map(answer, MESSAGES))
        assert [each.choices[0].message.content for each in answers] == expected
        for prompt, each in zip(prompts, answers, strict=True):
            assert each.usage.prompt_tokens == len(prompt)
            assert 0 <= each.usage.completion_tokens <= 12
            assert each.choices[0].finish_reason == ("length" if each.usage.completion_tokens == 12 else "stop")
        assert b'tokens_total{kind="prompt"}' in service.metrics.as_text()


def test_a_seed_draws_the_same_answer_again(model: ChatModel) -> None:
    with served(policy_of(model)) as (url, _):
        body = {"model": "tiny", "messages": MESSAGES[0], "max_tokens": 10, "temperature": 1.5}
        said = [
            ask(f"{url}/v1/chat/completions", body | {"seed": seed})[1]["choices"][0]["message"]["content"]
            for seed in (1, 1, 2, 3)
        ]
    assert said[0] == said[1]
    assert len(set(said)) > 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "other"}, "model is 'other'; the one that is served is tiny"),
        ({"stream": True}, "stream is True, which is not offered here"),
        ({"n": 2}, "n is 2"),
        ({"temperature": 9}, "temperature is 9; it must be within 0 to 2"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": 2049}, "max_tokens is 2049, and this service answers with at most 2048"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": PIXEL}]}]}, "does not see"),
        ({"messages": []}, "messages has 0"),
        ({"messages": [{"role": "user", "content": "x" * 10**6}]}, "messages has 1000000 characters, and the model's"),
        ({"messages": [None] * 1001}, "messages has 1001 of them; give at most 1000"),
        ({"messages": [{"role": "user", "content": [None] * 1001}]}, "messages[0].content has 1001 of them"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role is 'tool'"),
        ({"messages": [{"role": "user", "content": "<end_of_turn>"}]}, "a mark of the model's own"),
        ({"messages": [{"role": "user", "content": "x " * 9000}]}, "the model's context is 4096"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
            "itself",
        ),
        ({"unheard": 1}, "unheard is unknown"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(model: ChatModel, changes: dict[str, Any], words: str) -> None:
    body = {"model": "tiny", "messages": MESSAGES[0], "max_tokens": 1} | changes
    with served(policy_of(model)) as (url, _):
        status, answer = ask(f"{url}/v1/chat/completions", body)
    assert status == 400
    assert words in answer["error"]["message"]


def test_others_are_answered_while_a_chat_is_read(model: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = threading.Event(), threading.Event()
    own = Writer._read

    def read(*given: Any) -> Any:
        begun.set()
        assert may_end.wait(120)
        return own(*given)

    monkeypatch.setattr(Writer, "_read", read)
    body = {"model": "tiny", "messages": MESSAGES[0], "max_tokens": 1}
    with served(policy_of(model)) as (url, _), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, f"{url}/v1/chat/completions", body)
        try:
            assert begun.wait(120)
            with urllib.request.urlopen(f"{url}/health", timeout=60) as told:
                assert told.status == 200
        finally:
            may_end.set()
        assert answer.result()[0] == 200


def test_no_more_images_are_looked_at_together_than_there_are_places() -> None:
    seen: list[int] = []

    async def take(places: Any, count: int) -> None:
        async with places.taken(count):
            seen.append(count)
            assert sum(seen) <= 4
            await asyncio.sleep(0.001)
            seen.remove(count)

    async def take_all() -> None:
        places = writing._Places(4)
        cut_off = asyncio.create_task(take(places, 4))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(take(places, 3))
        await asyncio.sleep(0)
        waiting.cancel()  # what it held is free again
        await asyncio.gather(*(take(places, count) for count in (1, 2, 3, 4, 0, 1, 4)), cut_off)

    asyncio.run(asyncio.wait_for(take_all(), 120))


@needs_node
def test_a_chat_player_plays_a_battle_through_a_service_of_ours(model: ChatModel) -> None:
    teams = ["]".join(team.split("]")[:2]) for team in load_teams("gen1ou")[:2]]
    with served(policy_of(model)) as (url, service):
        player = chat_model(ChatSettings(model="tiny", url=f"{url}/v1", answer_tokens=4, retries=0, temperature=0.0))
        played = asyncio.run(evaluate([(player, scripted("RandomPlayer"))], 1, battle_format="gen1ou", teams=teams))
        taken: Any = player.chat.row() if player.chat else None
        counted = service.metrics.as_text().decode()
    assert (played.battles, played.unfinished) == (1, None)
    assert taken.decisions > 0
    assert set(taken.fallbacks) <= {"no legal answer"}  # its weights are random
    assert taken.calls == taken.decisions + taken.repairs + 1
    assert f'gemma_metamon_requests_total{{route="/v1/chat/completions",status="200"}} {taken.calls}.0' in counted
    assert f'gemma_metamon_tokens_total{{kind="prompt"}} {taken.prompt_tokens}.0' in counted


def test_a_model_that_sees_answers_what_it_is_shown() -> None:
    Image = pytest.importorskip("PIL.Image", reason="needs the extra: pip install 'gemma-metamon[vision]'")
    from gemma_metamon.vision.forms import Form
    from gemma_metamon.vision.models import SeeingPlan, build
    from gemma_metamon.vision.players.seeing import SeeingPolicy

    model = build(SeeingPlan(), Form(size=112), ["What do you choose? move Rest switch Snorlax"])
    model.model.eval()
    pictures = [Image.linear_gradient("L").resize((112, 112)).convert("RGB"), Image.new("RGB", (112, 112), "red")]
    words = {"type": "text", "text": "What do you choose?"}
    ids = model.prompt_ids([{"role": "user", "content": [{"type": "image"}, words]}])
    expected = [generate(model, [ids], 8, pixels=[model.look([picture])])[0] for picture in pictures]
    with served(SeeingPolicy(model, name="vlm:small")) as (url, _):
        for picture, text in zip(pictures, expected, strict=True):
            content = io.BytesIO()
            picture.save(content, "PNG")
            data_url = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
            shown = [{"type": "image_url", "image_url": {"url": data_url}}, words]
            body = {"model": "tiny", "messages": [{"role": "user", "content": shown}], "max_tokens": 8}
            status, answer = ask(f"{url}/v1/chat/completions", body)
            assert status == 200, answer
            assert answer["choices"][0]["message"]["content"] == text
            assert answer["usage"]["prompt_tokens"] == len(ids) >= 16
        large = io.BytesIO()
        Image.new("1", (4097, 4096)).save(large, "PNG")
        for each, why in ((b"hello", "an image cannot be read"), (large.getvalue(), "4097 x 4096 pixels")):
            url_of_it = f"data:image/png;base64,{base64.b64encode(each).decode()}"
            body["messages"][0]["content"][0]["image_url"]["url"] = url_of_it  # type: ignore[index]
            status, answer = ask(f"{url}/v1/chat/completions", body)
            assert status == 400
            assert why in answer["error"]["message"]
        only_words = {"model": "tiny", "messages": [{"role": "user", "content": "What?"}], "max_tokens": 2}
        assert ask(f"{url}/v1/chat/completions", only_words)[0] == 200

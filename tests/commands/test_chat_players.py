"""How chat models are written on the command line."""

import pytest

pytest.importorskip("openai", reason="needs the extra: pip install 'gemma-metamon[language]'")

from hypothesis import given
from hypothesis import strategies as st

from gemma_metamon.commands._chat_players import read_chat, usage_line
from gemma_metamon.commands._players import find_expert, find_players
from gemma_metamon.errors import ConfigError
from gemma_metamon.language.players.settings import ChatSettings
from gemma_metamon.results.schema import ChatUsageRow

LOCAL = "http://127.0.0.1:8080/v1"


def test_a_model_and_its_endpoint_are_parted_at_the_last_at() -> None:
    assert read_chat(f"chat:gemma-3-4b-it@{LOCAL}/") == ChatSettings(model="gemma-3-4b-it", url=LOCAL)
    read = read_chat("chat:org/model@2024@https://host/v1beta/openai(reasoning=no, max_calls=20,key_from=SOME_KEY)")
    assert read == ChatSettings(
        model="org/model@2024", url="https://host/v1beta/openai", reasoning=False, max_calls=20, key_from="SOME_KEY"
    )
    assert read_chat("RandomPlayer") is None


@given(st.booleans(), st.none() | st.floats(0, 2).map(lambda value: round(value, 3)), st.none() | st.integers(1, 10**9))
def test_a_players_label_is_read_as_the_player(reasoning: bool, temperature: float | None, most: int | None) -> None:
    chat = ChatSettings(model="m", url=LOCAL, reasoning=reasoning, temperature=temperature, max_tokens=most)
    assert read_chat(chat.name) == chat


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("chat:", "is written as in chat:gemma"),
        ("chat:m", "is written as in"),
        (f"chat:@{LOCAL}", "has a name"),
        ("chat:m@ftp://host/v1", "is no endpoint's address"),
        ("chat:m@http://", "is no endpoint's address"),
        (f"chat:m@{LOCAL}(speed=3)", "no option 'speed'; there are reasoning, history"),
        (f"chat:m@{LOCAL}(max_calls=3, max_calls=4)", "more than one max_calls"),
        (f"chat:m@{LOCAL}(max_calls=many)", "give a number"),
        (f"chat:m@{LOCAL}(max_calls=0)", "max_calls=0; it must be at least 1"),
        (f"chat:m@{LOCAL}(reasoning=perhaps)", "give yes or no"),
        (f"chat:m@{LOCAL}(temperature=nan)", "from 0 to 2"),
        (f"chat:m@{LOCAL}(timeout_s=0)", "above 0"),
        (f"ensemble(chat:m@{LOCAL}, RandomPlayer)", "nobody who plays from outside, as chat:NAME does"),
        (f"search(chat:m@{LOCAL})", "name one run"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        find_players([text])
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        f"chat:m@{LOCAL}(key_from=sk-live-42)",
        f"chat:m@{LOCAL}(key_from=AIzaLive42)",
        "chat:m@https://sk-live-42@host/v1",
        "chat:m@https://me:sk-live-42@host/v1",
        "chat:m@https://host/v1?key=sk-live-42",
    ],
)
def test_a_key_where_everybody_could_read_it_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        find_players([text])
    assert "ive" not in str(raised.value)
    assert "variable" in str(raised.value)


def test_the_usual_key_goes_by_https_and_to_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")

    def key(url: str, **options: str) -> str | None:
        return ChatSettings(model="m", url=url, **options).read_key()  # type: ignore[arg-type]

    assert key("https://host/v1") == key(LOCAL) == key("http://localhost/v1") == key("http://[::1]:80/v1") == "sk-1"
    assert key("http://host/v1") is key("http://10.0.0.1/v1") is key("http://localhost.evil.org/v1") is None
    assert key("http://host/v1", key_from="OPENAI_API_KEY") == "sk-1"
    with pytest.raises(ConfigError, match="variable OTHER_KEY is not set"):
        key("https://host/v1", key_from="OTHER_KEY")


def test_a_chat_model_labels_nobody_elses_states() -> None:
    with pytest.raises(ConfigError, match="is told what it chose before"):
        find_expert(f"chat:m@{LOCAL}")


def test_the_line_of_what_was_taken_says_how_many_choices_were_not_its_own() -> None:
    row = ChatUsageRow(
        decisions=40,
        calls=43,
        retries=1,
        prompt_tokens=900,
        completion_tokens=80,
        repairs=3,
        fallbacks={"no legal answer": 2},
        ended=None,
    )
    line = usage_line("chat:m", row)
    assert "40 decisions, 43 calls (1 retries), 900 prompt and 80 completion tokens, 3 answers repaired" in line
    assert line.endswith("2 made for it (5.0%: 2 no legal answer)")

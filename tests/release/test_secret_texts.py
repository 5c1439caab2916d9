"""gemma_metamon/release/secrets.py: what nobody else may see is found, whatever file it stands in."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st

from gemma_metamon.commands import main
from gemma_metamon.commands._logs import HidingFormatter
from gemma_metamon.release import secrets
from gemma_metamon.release.secrets import find_secrets, given, hide_secrets
from gemma_metamon.strict_json import on_one_line, shown, shown_path

# made up here, and put together so that no scanner takes this file for one that holds them
SECRETS = [
    "hf_" + "aB3" * 12,
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "ghp_" + "x" * 36,
    "sk-" + "proj-" + "abcdefghij0123456789",
    "AIza" + "b" * 35,
    "-----BEGIN " + "RSA PRIVATE KEY-----",
    "https://alice:" + "hunter22@example.org/store",
    '{"api_' + 'key": "0123456789abcdef"}',
    '{"pass' + 'word": "correct horse"}',
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("name", ["checkpoint.json", "README.md", "weights.safetensors"])
def test_what_looks_like_one_is_found_and_not_repeated(tmp_path: Path, secret: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x00\xff before " + secret.encode() + b" after \xfe")
    (found,) = find_secrets(path, {})
    assert secret not in found


def test_what_this_process_was_given_is_found_anywhere_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "_BLOCK", 1 << 14)
    known = given(
        {"SHOWDOWN_PASSWORD": "hunter2hunter2", "WANDB_API_KEY": "k" * 40, "PATH": "/usr/bin", "A_TOKEN": "x"}
    )
    assert known == {"SHOWDOWN_PASSWORD": b"hunter2hunter2", "WANDB_API_KEY": b"k" * 40}
    path = tmp_path / "weights.safetensors"
    for place in (0, (1 << 14) - 5, 50_000):  # the second across the end of a block
        path.write_bytes(bytes(place) + b"hunter2hunter2" + bytes(100))
        assert find_secrets(path, known) == ["the value of SHOWDOWN_PASSWORD"]


def test_a_variable_that_names_a_file_is_no_secret(tmp_path: Path) -> None:
    assert given({"TOKEN_FILE": str(tmp_path)}) == {}


@pytest.mark.parametrize("value", ["hunter2hunter2", "eyJ" + "S3CRET" * 100, "caf\udce9" * 5, "a\nb" * 5])
@pytest.mark.parametrize("tell", [shown_path, shown, on_one_line, lambda value: f"--x {value}: too long ({value})"])
def test_what_this_process_was_given_is_in_no_sentence(
    value: str, tell: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_JOB_TOKEN", value)
    hidden = hide_secrets(f"no file {tell(value)}; name another")
    assert hidden.startswith("no file ")
    assert hidden.endswith("; name another")
    assert not any(part in hidden for part in ("hunter2", "S3CRET", "caf", "a\\nb"))


def test_a_password_in_an_address_is_in_no_sentence() -> None:
    said = hide_secrets("s3://alice:hunter22@host/models could not be read (no answer of ftp://:x@host:21)")
    assert said == "s3://alice:…@host/models could not be read (no answer of ftp://:…@host:21)"
    for plain in ("http://127.0.0.1:8080/v1@2", "s3://bucket/models", "chat:gemma@http://host:80/v1"):
        assert hide_secrets(plain) == plain


@settings(max_examples=60)
@given_by(st.text(max_size=100))
def test_a_sentence_without_one_stays_as_it_is(text: str) -> None:
    assert hide_secrets(text) == text


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "{}"],
        ["report", "{}"],
        ["registry", "list", "--registry", "nowhere://alice:{}@127.0.0.1/models"],
        ["evaluate", "--players", "{}", "--opponents", "RandomPlayer"],
    ],
)
@pytest.mark.parametrize("secret", ["hunter2hunter2", "eyJ" + "S3CRET" * 100])
def test_no_sentence_tells_what_a_variable_keeps_secret(
    command: list[str], secret: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CI_JOB_TOKEN", secret)
    assert main([part.format(secret) for part in command]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"gemma-metamon {command[0]}: ")
    assert "…" in said
    assert not re.search("hunter2|S3CRET", said)


def test_what_is_logged_holds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_JOB_TOKEN", "hunter2hunter2")
    record = logging.makeLogRecord({"msg": "%s is not there", "args": ("ftp://a:b@host/hunter2hunter2",)})
    assert HidingFormatter().format(record) == "ftp://a:…@host/… is not there"


@pytest.mark.parametrize("value", ["eyJ" + "S3CRET" * 100, "\0" * 20, "a/" * 3000, "\udcff" * 20])
def test_one_that_no_file_may_be_named_is_one_all_the_same(value: str) -> None:
    assert given({"CI_JOB_TOKEN": value}) == {"CI_JOB_TOKEN": value.encode("utf-8", "surrogateescape")}


@settings(max_examples=60)
@given_by(
    st.text(st.characters(codec="utf-8", exclude_characters='"@'), max_size=300),
    st.sampled_from(SECRETS),
    st.text(st.characters(codec="utf-8", exclude_characters='"@'), max_size=300),
)
def test_nothing_around_it_hides_one(
    tmp_path_factory: pytest.TempPathFactory, before: str, secret: str, after: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "file.txt"
    path.write_text(f"{before} {secret} {after}", encoding="utf-8")
    assert find_secrets(path, {})


def test_what_a_run_usually_holds_is_clean(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer_config.json"
    path.write_text(
        '{"bos_token": "<bos>", "token": "", "sk-": 12, "url": "https://example.org/a@b", "pad_token": "<pad>"}'
    )
    assert find_secrets(path, {}) == []

"""Passwords and tokens in files and sentences: found by their form, and by what this process was given."""

import os
import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Final

from gemma_metamon.strict_json import shown_path

MIN_LENGTH: Final = 8
"""A shorter value of a variable could stand in a file by chance."""
_BLOCK: Final = 2**22
_OVERLAP: Final = 4096
_HEADER: Final = 2**20
_FORMS: Final = {
    "a Hugging Face token": rb"\bhf_[A-Za-z0-9]{30,}",
    "an AWS key": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50,})",
    "a key of OpenAI's or Anthropic's form": rb"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}",
    "a Google key": rb"\bAIza[0-9A-Za-z_-]{35}",
    "a Slack token": rb"\bxox[abprs]-[0-9A-Za-z-]{10,}",
    "a private key": rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "a password in an address": rb"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>]{1,100}:[^\s/:@\"'<>]{3,200}@[A-Za-z0-9]",
    "a field that holds one": rb"\"(?i:password|passwd|secret|api_?key|(?:access|auth|api|hf|bearer|refresh)_?token"
    rb"|aws_secret_access_key)\"\s*:\s*\"[^\"]{4,}\"",
}
_PATTERNS: Final = {what: re.compile(form) for what, form in _FORMS.items()}
_IN_ADDRESS: Final = re.compile(r"(://[^\s/:@\"'<>]{0,100}:)[^\s/@\"'<>]{1,200}(?=@)")
_PART: Final = 12
"""Characters by which the beginning or the end of a value is known, where a sentence cuts a long one."""
_NAMES: Final = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL")


def given(environment: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """What variables with such names hold, by the variable; None looks at this process's own."""
    looked_at = os.environ if environment is None else environment
    return {
        name: value.encode("utf-8", "surrogateescape")
        for name, value in looked_at.items()
        if _NAMES.search(name.upper()) and len(value) >= MIN_LENGTH and not _is_place(value)
    }


def _is_place(value: str) -> bool:
    """Whether a file or folder has this name. One that nothing may have is none; the error would tell the value."""
    try:
        return Path(value).exists()
    except (OSError, ValueError):
        return False


def hide_secrets(text: str) -> str:
    """A text with "…" in the place of passwords in addresses, and of what this process was given."""
    text = _IN_ADDRESS.sub(r"\1…", text)
    for value in given().values():
        plain = value.decode("utf-8", "surrogateescape")
        for form in dict.fromkeys((plain, shown_path(value), repr(plain)[1:-1])):  # as sentences tell it
            text = _without_beginning(_without_beginning(text, form)[::-1], form[::-1])[::-1]
    return text


def _without_beginning(text: str, value: str) -> str:
    """The text without the value, and without whatever of it follows its first characters."""
    begin = value[:_PART]
    while (at := text.find(begin)) >= 0:
        length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text[at:], value, strict=False)))
        text = f"{text[:at]}…{text[at + length :]}"
    return text


def find_secrets(path: Path, known: Mapping[str, bytes]) -> list[str]:
    """What a file holds that nobody else may see, in words that do not repeat it; none of a clean file.

    Of tensors only the header is text; the rest is searched for what is known alone.

    Args:
        path: a file of any size.
        known: of `given`.
    """
    found: dict[str, None] = {}
    place, tail = 0, b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            content = tail + block
            for name, value in known.items():
                if value in content:
                    found[f"the value of {name}"] = None
            if path.suffix != ".safetensors" or place < _HEADER:
                for what, pattern in _PATTERNS.items():
                    if pattern.search(content):
                        found[what] = None
            place += len(block)
            tail = content[-_OVERLAP:]
    return list(found)

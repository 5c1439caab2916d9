"""What Gemma reads for a word."""

import json
from collections import defaultdict

import pytest
from support.paths import GOLDENS

from gemma_metamon.errors import ConfigError
from gemma_metamon.text.phrases import PHRASINGS, join_phrases, phrase
from gemma_metamon.text.vocabulary import Vocabulary

LINES = json.loads((GOLDENS / "text" / "lines.json").read_text(encoding="utf-8"))
VOCABULARY = Vocabulary.default()


@pytest.mark.parametrize(
    ("word", "natural"),
    [
        ("greattusk", "Great Tusk"),
        ("heavydutyboots", "Heavy-Duty Boots"),
        ("willowisp", "Will-O-Wisp"),
        ("farfetchd", "Farfetch'd"),
        ("flabebe", "Flabébé"),
        ("hiddenpower", "Hidden Power"),
        ("protosynthesisspa", "Protosynthesis Special Attack"),
        ("mustrecharge", "Must Recharge"),
        ("brn", "burned"),
        ("nostatus", "healthy"),
        ("<switch>", "bench"),
        ("<moveset>", "moves"),
        ("<blank>", "-"),
        ("<gen9ou>", "Gen 9 OU"),
        ("unknown", "unknown"),
    ],
)
def test_natural_phrase_is_the_display_name(word: str, natural: str) -> None:
    assert phrase(word, "natural") == natural
    assert phrase(word, "raw") == word


def test_word_without_a_display_name_is_read_as_it_is() -> None:
    assert phrase("aaaextra", "natural") == "aaaextra"


@pytest.mark.parametrize("phrasing", PHRASINGS)
def test_no_phrase_breaks_the_single_spaces_between_phrases(phrasing: str) -> None:
    """What the word-by-word look-up relies on: subwords.py says why "</" may not begin a phrase."""
    phrases = [phrase(word, phrasing) for word in VOCABULARY]
    assert [text for text in phrases if not text or text != " ".join(text.split()) or text.startswith("</")] == []


def test_words_that_can_meet_in_a_slot_read_differently() -> None:
    words_of = defaultdict(set)
    for word in VOCABULARY:
        words_of[phrase(word, "natural")].add(word)
    assert {text: words for text, words in words_of.items() if len(words) > 1} == {
        "none": {"nomove", "noability", "notype", "noeffect", "noconditions", "nofield"},
        "10,000,000 Volt Thunderbolt": {"voltthunderbolt", "10000000voltthunderbolt"},
        "Soul-Stealing 7-Star Strike": {"soulstealingstarstrike", "soulstealing7starstrike"},
    }


def test_line_is_the_phrases_joined_by_single_spaces() -> None:
    words = ["<gen9ou>", "<anychoice>", "<player>", "greattusk", "heavydutyboots"]
    assert join_phrases(words, "natural") == "Gen 9 OU choose you Great Tusk Heavy-Duty Boots"
    assert join_phrases(words, "raw") == " ".join(words)


@pytest.mark.parametrize("phrasing", PHRASINGS)
def test_word_outside_the_vocabulary_is_read_as_unknown(phrasing: str) -> None:
    assert join_phrases(["water", "aaaextra"], phrasing, VOCABULARY).endswith(" unknown")


def test_natural_lines_are_much_shorter_than_raw_ones() -> None:
    """Subwords are what the encoder's time is spent on; these lines were chosen for their rare words."""
    for line in LINES:
        assert len(line["natural"]) < 0.8 * len(line["raw"]), line["space"]
    assert sum(len(line["natural"]) for line in LINES) < 0.7 * sum(len(line["raw"]) for line in LINES)


@pytest.mark.parametrize("phrasing", ["Natural", "", "short"])
def test_unknown_phrasing_is_refused(phrasing: str) -> None:
    with pytest.raises(ConfigError, match=f"phrasing '{phrasing}' does not exist; choose one of 'raw', 'natural'"):
        phrase("surf", phrasing)

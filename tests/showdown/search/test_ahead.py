"""What is asked of an arena by those who look ahead."""

import asyncio
import gc
import weakref

import pytest

from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.search.ahead import Question, ask

pytestmark = pytest.mark.server


def asked_of_a_new_arena() -> "weakref.ref[Arena]":
    question = Question(battle="battle-gen1ou-1", seat="p1", worlds=(), choices=("move 1",), turns=1)
    with Arena() as arena:
        with pytest.raises(ConfigError, match="'battle-gen1ou-1' is not in play"):
            asyncio.run(ask(arena, question))
        return weakref.ref(arena)


def test_an_arena_goes_when_nobody_uses_it_any_more() -> None:
    arena = asked_of_a_new_arena()
    gc.collect()
    assert arena() is None

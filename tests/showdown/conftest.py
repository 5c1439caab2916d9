"""One arena for all tests of a file; whatever a test leaves in play ends with it."""

from collections.abc import Iterator

import pytest

from gemma_metamon.showdown.arena.arena import Arena


@pytest.fixture(scope="module")
def workers() -> Iterator[Arena]:
    with Arena() as arena:
        yield arena


@pytest.fixture
def arena(workers: Arena) -> Iterator[Arena]:
    yield workers
    for battle in workers.battles:
        workers.drop(battle)
    workers.receive(at_least=99)

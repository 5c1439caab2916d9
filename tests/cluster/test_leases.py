"""Leases of work: whatever is lost, and whatever is told twice, each piece is done once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_metamon.cluster.leases import MOST_LOSSES, Lease, LeaseBook
from gemma_metamon.errors import ServerError


def book_of(n: int, size: int) -> LeaseBook[int, str]:
    return LeaseBook(((key, f"piece {key}") for key in range(n)), size)


@settings(max_examples=25)
@given(st.integers(0, 30), st.integers(1, 7), st.data())
def test_each_piece_is_done_once_whatever_is_lost(n: int, size: int, data: st.DataObject) -> None:
    book, done, in_hands = book_of(n, size), list[int](), list[Lease[int, str]]()
    lost: dict[int, int] = dict.fromkeys(range(n), 0)
    while not book.is_done:
        if book.waits and (not in_hands or data.draw(st.booleans())):
            in_hands.append(book.take())
            assert 1 <= len(in_hands[-1].pieces) <= size
            continue
        lease = in_hands.pop(data.draw(st.integers(0, len(in_hands) - 1)))
        may_be_lost = max(lost[key] for key in lease.pieces) < MOST_LOSSES - 1
        n_told = data.draw(st.integers(0, len(lease.pieces))) if may_be_lost else len(lease.pieces)
        told = list(lease.pieces)[:n_told]
        done += [key for key in [*told, *told[:1]] if book.note_done(key)]
        again = book.give_back(lease, "it was lost")
        assert again == list(lease.pieces)[n_told:]
        for key in again:
            lost[key] += 1
    assert sorted(done) == list(range(n))
    assert not book.waits


def test_what_was_lost_is_begun_before_what_has_not_begun() -> None:
    book = book_of(6, 2)
    first = book.take()
    assert book.note_done(0)
    assert book.give_back(first, "it was lost") == [1]
    assert list(book.take().pieces) == [1, 2]


def test_what_is_lost_again_and_again_is_given_up_with_the_last_reason() -> None:
    book = book_of(1, 1)
    for _ in range(MOST_LOSSES - 1):
        book.give_back(book.take(), "its node ended")
    with pytest.raises(ServerError, match=r"^number 0 was lost 3 times with its worker, last because of rain$"):
        book.give_back(book.take(), "of rain")


def test_what_is_lost_by_no_fault_of_its_own_is_never_given_up() -> None:
    book = book_of(2, 2)
    for _ in range(3 * MOST_LOSSES):
        assert book.give_back(book.take(), "its policy server was lost", counts=False) == [0, 1]
    for _ in range(MOST_LOSSES - 1):
        book.give_back(book.take(), "its node ended")
    with pytest.raises(ServerError, match=r"^number 0 was lost 3 times"):
        book.give_back(book.take(), "its node ended")

"""Signals around the start of a process: late, and not lost."""

import os
import signal
import threading

import pytest

from gemma_metamon.child_processes import signals_afterwards
from gemma_metamon.commands._ending import ended_by_signals
from gemma_metamon.errors import TerminatedError


def test_a_signal_is_heard_when_the_block_is_done() -> None:
    done = []

    def work() -> None:
        with ended_by_signals(), signals_afterwards():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(True)

    with pytest.raises(TerminatedError) as caught:
        work()
    assert done == [True]
    assert caught.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_is_ignored_stays_ignored_and_other_threads_are_left_alone() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_afterwards():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    entered = []

    def enter() -> None:
        with signals_afterwards():
            entered.append(True)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [True]

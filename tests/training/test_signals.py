"""Signals while a model is trained."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from modelstore.training.signals import asked

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send oneself")


def _send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # it is seen when Python next looks


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_a_request_and_the_second_ends_the_block(number: int) -> None:
    """The first is taken note of; the second does what it did before."""
    before = signal.getsignal(number)
    signal.signal(number, signal.default_int_handler)
    try:
        with asked() as request:
            assert not request()
            _send(number)
            assert request()
            with pytest.raises(KeyboardInterrupt):
                _send(number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_what_is_ignored_stays_so() -> None:
    """Under nohup a closed terminal is no reason to stop."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with asked() as request:
            _send(signal.SIGHUP)
            assert not request()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_are_told_of_none() -> None:
    """There a block works, and nobody can ask."""
    found: list[bool] = []

    def work() -> None:
        with asked() as request:
            found.append(request())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from modelstore.errors import RemoteError
from modelstore.remotes import retry
from modelstore.remotes.retry import PassingError, resumed, retried


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses that would have been made."""
    made: list[float] = []
    monkeypatch.setattr(time, "sleep", made.append)
    return made


def test_what_passes_is_tried_again(pauses: list[float]) -> None:
    """A call that fails twice and then succeeds is a success."""
    results = iter([PassingError("1"), PassingError("2"), "done"])

    def call() -> str:
        result = next(results)
        if isinstance(result, PassingError):
            raise result
        return result

    assert retried(call) == "done"
    assert len(pauses) == 2


def test_tries_are_bounded(pauses: list[float]) -> None:
    """After the last try its error is raised; the pauses grow and are bounded together."""
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        raise PassingError(f"failure {len(calls)}")

    with pytest.raises(PassingError, match="failure 6"):
        retried(call)
    assert len(calls) == retry.TRIES
    assert sum(pauses) <= 6.2


def test_other_errors_are_not_tried_again(pauses: list[float]) -> None:
    """An error that will not pass is raised at once."""
    with pytest.raises(RemoteError, match="no"):
        retried(lambda: (_ for _ in ()).throw(RemoteError("no")))
    assert pauses == []


def test_a_server_is_left_alone_as_long_as_it_says(pauses: list[float]) -> None:
    """Retry-After is obeyed, up to a bound."""
    for wait, least, most in [(3.0, 3.0, 3.0), (1000.0, 8.0, 8.0)]:
        pauses.clear()

        def call(wait: float = wait) -> None:
            raise PassingError("busy", wait=wait)

        with pytest.raises(PassingError):
            retried(call, tries=2)
        assert least <= pauses[0] <= most


def test_progress_is_patience(pauses: list[float]) -> None:
    """What moves on between failures may fail any number of times."""
    done = 0

    def rest() -> Iterator[int]:
        nonlocal done
        while done < 50:
            done += 1
            yield done
            if done % 2:
                raise PassingError("again")

    assert list(resumed(rest, tries=2)) == list(range(1, 51))
    assert max(pauses) <= 0.2

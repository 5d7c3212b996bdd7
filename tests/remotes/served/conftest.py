"""A store that is served, and stores to push from; and requests that no client of ours makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from modelstore.remotes.base import Remote
from modelstore.remotes.opening import open_remote
from modelstore.store import Store, create
from tests.contracts.remote import (
    StoreContract,
)
from tests.server.live import TOKEN, Live, serving

MINE = {"MSTORE_TOKEN": TOKEN}


@pytest.fixture
def served(tmp_path: Path) -> Store:
    """The store that is served, still empty."""
    return create(tmp_path / "served" / "tuned_models")


@pytest.fixture
def live(served: Store) -> Iterator[Live]:
    """The server."""
    with serving(served, token=TOKEN) as live:
        yield live


@contextmanager
def at(url: str, environment: Mapping[str, str]) -> Iterator[Remote]:
    """Open the remote at ``url`` for the length of the block."""
    with closing(open_remote(url, environment)) as remote:
        yield remote


@pytest.fixture
def remote(live: Live) -> Iterator[Remote]:
    """It as a remote, of one who has the token."""
    with at(live.url, MINE) as remote:
        yield remote


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store to push from."""
    return create(tmp_path / "tuned_models")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """A second store."""
    return create(tmp_path / "other" / "tuned_models")


class Raw:
    """Requests that no client of ours makes."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def put(self, key: str, body: bytes, **headers: str) -> tuple[int, str]:
        """Put a value with the token; return the status and the sentence."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if not {"If-Match", "If-None-Match"} & named.keys():
            named["If-None-Match"] = "*"
        said = {"Authorization": f"Bearer {TOKEN}", **named}
        answer = self._live.ask(f"/{key}", "PUT", said, body)
        return answer.status, answer.headers.get("x-error-message", "")


@pytest.fixture
def raw(live: Live) -> Raw:
    """The server, for requests of any kind."""
    return Raw(live)


def send_frames(store: Store, remote: Remote) -> None:
    """Put the frames of a store, what they are built on first."""
    StoreContract().send_all(store, remote)

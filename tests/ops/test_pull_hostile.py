"""A remote may be anybody's, and say anything: nothing that is wrong gets in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelstore.errors import IntegrityError, StoreError
from modelstore.hashing import digest_of
from modelstore.ops.lines import read_line
from modelstore.ops.pull import pull
from modelstore.ops.transfer import key_of
from modelstore.remotes.base import Remote
from modelstore.store import Store
from modelstore.view import render
from tests.ops.remotes import (
    LINE,
    assert_sound,
    commit_model,
    place,
    pull_from,
    push_to,
)

REGISTRY = "models/m/registry.json"


def lying(change: Callable[[dict[str, Any]], None]) -> Callable[[Remote], None]:
    """Return what changes the registry at a remote, with a right checksum."""

    def lie(remote: Remote) -> None:
        line = read_line(remote, LINE)
        assert line is not None
        document = json.loads(json.dumps(line.document))
        change(document)
        remote.put(REGISTRY, render(document))

    return lie


LIES: dict[str, Callable[[Remote], None]] = {
    "a registry that is cut": lambda remote: remote.put(REGISTRY, remote.get(REGISTRY)[:-20]),
    "a registry that is empty": lambda remote: remote.put(REGISTRY, b""),
    "a registry of terabytes": lambda remote: remote.put(REGISTRY, bytes(9 << 20)),
    "another model's registry": lying(lambda d: d.update(model_type="n")),
    "a version that no record names": lying(
        lambda d: d["versions"].update({"v9.0": {"id": digest_of(b"x"), "seq": 1}})
    ),
    "a version of another content": lying(
        lambda d: d["versions"]["v1.1"].update(id=d["versions"]["v1.0"]["id"])
    ),
    "another ACTIVE": lying(lambda d: d.update(active_version="v1.1")),
    "a head that is nobody's": lying(lambda d: d.update(head=digest_of(b"x"))),
    "a number too large": lying(lambda d: d.update(seq=10**9)),
    "names that are no models": lambda remote: remote.put(
        "models.json", b'{"models":["../m"],"schema":"mstore/models/1"}'
    ),
    "another format": lambda remote: remote.put(
        "mstore.json", b'{"schema":"mstore/remote/2","format":2,"features":[]}'
    ),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("here", ["nothing", "an older state"])
def test_a_remote_that_lies_changes_nothing_here(
    store: Store, other: Store, remote: Remote, tmp_path: Path, lie: str, here: str
) -> None:
    """A pull ends in a clean error, and our registry is as it was."""
    commit_model(store, tmp_path / "run")
    push_to(store, remote)
    if here != "nothing":
        pull_from(other, remote)
    before = other.state(LINE).document if here != "nothing" else None
    commit_model(store, tmp_path / "run", step=1e-4)
    push_to(store, remote)
    LIES[lie](remote)

    with pytest.raises(StoreError) as found:
        pull(other, place(remote))
    assert found.value.exit_code in {4, 5, 6, 7, 13}
    assert other.registry(LINE).exists() == (before is not None)
    if before is not None:
        assert other.state(LINE).document == before
        assert_sound(other)


def test_a_registry_that_was_rolled_back_is_noticed(
    store: Store, other: Store, remote: Remote, tmp_path: Path
) -> None:
    """An older state there takes nothing away from ours, and the next push puts it right."""
    commit_model(store, tmp_path / "run")
    push_to(store, remote)
    old = remote.get(REGISTRY)
    commit_model(store, tmp_path / "run", step=1e-4)
    push_to(store, remote)
    pull_from(other, remote)
    remote.put(REGISTRY, old)
    assert pull_from(other, remote).outcome == "ahead"
    assert len(other.state(LINE).versions()) == 2
    assert push_to(other, remote).outcome == "forward"


def test_a_registry_whose_blobs_are_not_there_is_refused(
    store: Store, other: Store, remote: Remote, tmp_path: Path
) -> None:
    """A version is never published here whose blobs did not come."""
    commit_model(store, tmp_path / "run")
    push_to(store, remote)
    digest = max(store.blobs.iter_digests(), key=lambda d: store.blobs.header(d).raw_size)
    remote.delete([key_of(digest)])
    with pytest.raises(IntegrityError, match=str(digest)):
        pull_from(other, remote)
    assert not other.registry(LINE).exists()

from __future__ import annotations

import pytest

from modelstore.remotes.cloud import CloudRemote, memory_remote
from tests.contracts.remote import WriteContract


@pytest.fixture
def remote() -> CloudRemote:
    """Return an empty store in memory."""
    return memory_remote()


class TestMemoryRemote(WriteContract):
    """An object store is a remote; this one is in memory."""


def test_skips_what_is_no_key(remote: CloudRemote) -> None:
    """Values in the bucket that others put under names that are no keys are not listed."""
    remote.put("a/b", b"1")
    remote._store.put("a/with space", b"2")
    assert [found.key for found in remote.list()] == ["a/b"]

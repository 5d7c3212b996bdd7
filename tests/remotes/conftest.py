"""Real servers, started once for all tests that use them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.remotes import servers


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Ceph]:
    """Run Ceph."""
    with servers.ceph(tmp_path_factory.mktemp("ceph")) as running:
        yield running


@pytest.fixture(scope="session")
def bucket(ceph: servers.Ceph) -> servers.Place:
    """Return a bucket at Ceph."""
    return ceph.place("bucket")


@pytest.fixture(scope="session")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Place]:
    """Run Azurite."""
    with servers.azurite(tmp_path_factory.mktemp("azurite")) as place:
        yield place

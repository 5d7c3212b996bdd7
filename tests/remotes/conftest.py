"""Real servers, started once for all tests that use them; and a store whose content they are given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from modelstore.ops.backup import backup
from modelstore.store import Store, create
from tests.ops.remotes import commit_model, push_to
from tests.remotes import servers
from tests.remotes.proxy import Proxy, proxied
from tests.remotes.scenes import Files, Spot, all_files, spot_in


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


@pytest.fixture(params=["bucket", "container"])
def anywhere(request: pytest.FixtureRequest) -> servers.Place:
    """Return a bucket at Ceph, and then a container at Azurite."""
    place: servers.Place = request.getfixturevalue(request.param)
    return place


@pytest.fixture
def proxy(ceph: servers.Ceph) -> Iterator[Proxy]:
    """Return a proxy in front of Ceph."""
    with proxied(ceph.url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with three versions, each built on the one before; only read."""
    root = tmp_path_factory.mktemp("line")
    store = create(root / "store")
    for number in range(3):
        commit_model(store, root / "run", step=number * 1e-3)
    return store


@pytest.fixture(scope="session")
def content(line: Store) -> Files:
    """The files of these versions."""
    return all_files(line)


@pytest.fixture
def source(line: Store, bucket: servers.Place, proxy: Proxy) -> Spot:
    """A place that has everything, pushed and backed up."""
    spot = spot_in(bucket, proxy)
    push_to(line, spot.remote())
    backup(line, spot.remote())
    return spot

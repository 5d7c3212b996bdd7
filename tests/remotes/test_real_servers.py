"""Remotes at real servers: Ceph for S3, Azurite for Azure, and rclone for what must be refused."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from modelstore.errors import ConflictError, NotFoundError, RemoteError, StoreError
from modelstore.remotes import retry
from modelstore.remotes.base import Remote
from modelstore.remotes.keyfile import KeyFile
from modelstore.remotes.opening import open_remote
from modelstore.remotes.probe import probe, require_registries
from modelstore.remotes.sealed import create_sealed
from tests.contracts.remote import WriteContract, at_once, noise
from tests.remotes.proxy import Fault, Proxy, Request
from tests.remotes.servers import Ceph, Place, rclone_s3
from tests.remotes.test_sealed import SealedContract

pytestmark = pytest.mark.remote

FILE = KeyFile(bytes(32))


@pytest.fixture
def remote(bucket: Place) -> Remote:
    """Return an empty part of a bucket at Ceph."""
    return open_remote(bucket.below(uuid.uuid4().hex), bucket.environment)


class TestCeph(WriteContract):
    """A bucket at Ceph is a remote."""


class TestSealedCeph(SealedContract):
    """A bucket at Ceph can be sealed."""

    MANY = 100

    @pytest.fixture
    def remote(self, bucket: Place) -> Remote:
        """Return an empty sealed remote."""
        inner = open_remote(bucket.below(uuid.uuid4().hex), bucket.environment)
        return create_sealed(inner, FILE)


class TestAzurite(WriteContract):
    """A container at Azurite is a remote."""

    MANY = 200  # its pages have 5000, and it is slow

    @pytest.fixture
    def remote(self, container: Place) -> Remote:
        """Return an empty part of a container."""
        return open_remote(container.below(uuid.uuid4().hex), container.environment)


def test_rclone_is_found_out(tmp_path: Path) -> None:
    """A server that overwrites whatever the precondition says may not keep registries."""
    with rclone_s3(tmp_path) as place:
        remote = open_remote(place.below("p"), place.environment)
        found = probe(remote)
        assert not found.creates
        assert not found.updates
        with pytest.raises(RemoteError, match="cannot keep registries"):
            require_registries(remote)
        remote.put("frames/a", b"1")
        assert remote.get("frames/a") == b"1"


def test_a_bucket_that_is_not_there_is_no_empty_one(bucket: Place) -> None:
    """Neither a listing nor a value of a missing bucket is taken for nothing."""
    address = bucket.below("p").replace("s3://bucket", "s3://nobucket")
    remote = open_remote(address, bucket.environment)
    for call in (lambda: list(remote.list()), lambda: remote.get("a"), lambda: remote.head("a")):
        with pytest.raises(RemoteError):
            call()


def test_wrong_credentials_are_told_without_them(bucket: Place) -> None:
    """A refusal says so, and shows neither the key nor the secret."""
    environment = {"AWS_ACCESS_KEY_ID": "AKNOTHERE", "AWS_SECRET_ACCESS_KEY": "hush"}
    remote = open_remote(bucket.below("p"), environment)
    with pytest.raises(RemoteError, match="refused the credentials") as caught:
        remote.get("a")
    assert "AKNOTHERE" not in caught.value.message
    assert "hush" not in caught.value.message


# --- requests


@pytest.fixture
def far(bucket: Place, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """Return an empty part of a bucket, reached by way of the proxy, with short pauses."""
    monkeypatch.setattr(retry, "_FIRST", 0.01)
    return open_remote(bucket.below(uuid.uuid4().hex, proxy.url), bucket.environment)


def test_takes_few_requests(far: Remote, proxy: Proxy) -> None:
    """Every call is one request where the protocol allows it, and a listing is one a thousand."""

    def fill(index: int) -> None:
        for number in range(index, 1200, 8):
            far.put(f"f/{number % 50:02}/{number}", b"x")

    at_once(8, fill)
    tag = far.swap("r", b"1", None)
    keys = [found.key for found in far.list("f")]
    calls = [
        (1, lambda: far.put("v", b"1")),
        (1, lambda: far.put_if_absent("w", b"1")),
        (2, lambda: far.put_if_absent("w", b"1")),  # and whether it is there
        (1, lambda: far.swap("r", b"2", tag)),
        (1, lambda: far.get("v")),
        (1, lambda: far.get_range("f/00/0", 0, 1)),
        (1, lambda: far.head("v")),
        (1, lambda: list(far.stream("v"))),
        (2, lambda: list(far.list("f"))),
        (2, lambda: far.delete(keys)),
    ]
    for expected, call in calls:
        proxy.begin()
        call()
        assert len(proxy.requests) == expected, proxy.requests


# --- faults

FAULTS = {
    "latency": Fault(delay=0.1),
    "reset at once": Fault(reset_request_at=0),
    "reset within the request": Fault(reset_request_at=3),
    "busy": Fault(status=503),
    "failing": Fault(status=500),
    "too many": Fault(status=429),
    "reply lost": Fault(lose_reply=True),
    "twice": Fault(twice=True),
    "reset within the reply": Fault(reset_reply_at=3),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_every_fault_passes_or_is_told(far: Remote, proxy: Proxy, fault: Fault) -> None:
    """Whichever request a fault hits, a call does what it says or raises; a second try succeeds."""
    for hit in range(12):
        base = f"n{hit}"
        proxy.begin(lambda number, request, hit=hit: fault if number == hit else None)
        with suppress(RemoteError):
            exercise(far, base)
            continue
        proxy.begin()
        far.delete([found.key for found in far.list(base)])
        exercise(far, base)


def test_a_listing_that_is_cut_is_an_error(far: Remote, proxy: Proxy) -> None:
    """A listing that ends early, as if that were all of it, is never taken for a shorter one."""
    keys = [f"a/{number:03}" for number in range(50)]
    for key in keys:
        far.put(key, b"1")
    for size in (0, 1, 100, 1000, 5000):
        proxy.begin(lambda number, request, size=size: Fault(cut_reply_at=size))
        with pytest.raises(RemoteError):
            list(far.list())
        proxy.begin(
            lambda number, request, size=size: Fault(cut_reply_at=size) if not number else None
        )
        assert sorted(found.key for found in far.list()) == keys


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_burst_of_refusals_passes(far: Remote, proxy: Proxy, status: int) -> None:
    """A server that refuses three requests in a row is asked again."""
    for call in (
        lambda: far.put("v", b"1"),
        lambda: far.get("v"),
        lambda: far.swap("r", b"1", None),
        lambda: list(far.list()),
        lambda: far.delete(["v", "r"]),
    ):
        proxy.begin(lambda number, request: Fault(status=status) if number < 3 else None)
        call()
        assert len(proxy.requests) >= 4


def exercise(remote: Remote, base: str) -> None:
    """Use ``remote`` below ``base`` in every way, and assert that what it says is so."""
    remote.put(f"{base}/small", b"small" * 50)
    remote.put_if_absent(f"{base}/once", b"once" * 60)
    tag = remote.swap(f"{base}/ref", b"first" * 50, None)
    tag = remote.swap(f"{base}/ref", b"second" * 50, tag)
    assert remote.get_tagged(f"{base}/ref") == (b"second" * 50, tag)
    assert remote.get(f"{base}/small") == b"small" * 50
    assert remote.get_range(f"{base}/once", 1, 9) == b"nceonceo"
    assert b"".join(remote.stream(f"{base}/once")) == b"once" * 60
    names = sorted(found.key for found in remote.list(base))
    assert names == [f"{base}/once", f"{base}/ref", f"{base}/small"]
    remote.delete(names)
    assert list(remote.list(base)) == []


def test_a_lost_reply_to_a_swap_is_success(far: Remote, proxy: Proxy) -> None:
    """A swap whose reply is lost was done, and is known to be ours."""
    proxy.begin(lambda number, request: Fault(lose_reply=number == 0))
    tag = far.swap("r", b"1 by me", None)
    proxy.begin(lambda number, request: Fault(lose_reply=number == 0))
    tag = far.swap("r", b"2 by me", tag)
    assert far.get_tagged("r") == (b"2 by me", tag)


def test_a_lost_reply_is_no_success_if_another_wins(
    far: Remote, remote: Remote, proxy: Proxy, bucket: Place
) -> None:
    """A swap that was reset before the server had it loses to whoever came between."""
    near = open_remote(bucket.below(far.shown.rpartition("/")[2]), bucket.environment)
    tag = far.swap("r", b"0", None)

    def plan(number: int, request: Request) -> Fault | None:
        if number == 0:
            near.swap("r", b"1 by another", tag)
            return Fault(reset_request_at=0)
        return None

    proxy.begin(plan)
    with pytest.raises(ConflictError):
        far.swap("r", b"1 by me", tag)
    assert far.get("r") == b"1 by another"


def test_a_large_value_survives_resets(far: Remote, proxy: Proxy) -> None:
    """Parts whose connection breaks are sent again, and a download goes on where it stopped."""
    data = noise(40 << 20)
    broken = {"PUT": 3, "GET": 2}

    def plan(number: int, request: Request) -> Fault | None:
        if broken.get(request.method, 0) and (request.sent > 1000 or request.method == "GET"):
            broken[request.method] -= 1
            return Fault(reset_request_at=70_000, reset_reply_at=(5 << 20) + 1)
        return None

    def only_replies(number: int, request: Request) -> Fault | None:
        return Fault(reset_reply_at=(7 << 20) + 1) if number < 2 else None

    proxy.begin(plan)
    far.put("large", data)
    assert broken["PUT"] == 0
    proxy.begin(only_replies)
    assert b"".join(far.stream("large")) == data
    assert len(proxy.requests) == 3
    assert all(request.method == "GET" for request in proxy.requests)


def test_loses_no_change_through_a_bad_network(far: Remote, proxy: Proxy) -> None:
    """Eight writers that look for their own change first make each change exactly once."""
    far.swap("log", b"", None)
    kinds = [
        Fault(lose_reply=True),
        Fault(twice=True),
        Fault(status=503),
        Fault(reset_request_at=0),
    ]
    proxy.begin(lambda number, request: kinds[number // 5 % 4] if number % 5 == 0 else None)

    def write(index: int) -> None:
        for turn in range(4):
            mine = b"%d-%d" % (index, turn)
            while True:
                data, tag = far.get_tagged("log")
                if mine in data.split():
                    break
                with suppress(ConflictError):
                    far.swap("log", data + b" " + mine, tag)

    at_once(8, write)
    proxy.begin()
    expected = [b"%d-%d" % (index, turn) for index in range(8) for turn in range(4)]
    assert sorted(far.get("log").split()) == expected


# --- kill -9


def test_a_server_that_is_killed_and_comes_back(ceph: Ceph, remote: Remote) -> None:
    """Writers go on when the gateway is back, and nothing that was acknowledged is lost."""
    acknowledged: dict[str, bytes] = {}
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            key, number = f"w/{number}", number + 1
            with suppress(RemoteError):
                remote.put(key, noise(20_000, number))
                acknowledged[key] = noise(20_000, number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(2):
            time.sleep(0.7)
            ceph.kill_gateway()
            time.sleep(0.3)
            ceph.start_gateway()
    finally:
        time.sleep(0.5)
        stop.set()
        thread.join()
    assert len(acknowledged) > 20
    for key, data in acknowledged.items():
        assert remote.get(key) == data


def test_a_server_that_is_killed_within_a_value(ceph: Ceph, remote: Remote) -> None:
    """A large value is there whole or not at all after the gateway was killed while it came."""
    data = noise(150 << 20)
    outcome: list[StoreError | None] = []

    def put() -> None:
        try:
            remote.put("large", data)
            outcome.append(None)
        except StoreError as error:
            outcome.append(error)

    thread = threading.Thread(target=put)
    thread.start()
    time.sleep(0.25)
    ceph.kill_gateway()
    time.sleep(0.5)
    ceph.start_gateway()
    thread.join()
    if outcome[0] is None:
        assert b"".join(remote.stream("large")) == data
    else:
        assert isinstance(outcome[0], RemoteError)
        with pytest.raises(NotFoundError):
            remote.get("large")
        remote.put("large", data)
        assert b"".join(remote.stream("large")) == data

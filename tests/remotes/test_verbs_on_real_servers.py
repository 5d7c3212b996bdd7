"""Push, pull, clone, backup, restore and prune at real servers, through bad networks, killed at work.

Whatever happens, a verb does what it says or raises, and doing it again completes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from modelstore.errors import RemoteError, StoreError
from modelstore.ops.backup import backup
from modelstore.ops.backup_check import check
from modelstore.ops.backup_document import read_all
from modelstore.ops.backup_prune import plan_prune, prune
from modelstore.ops.backup_retention import BackupPolicy
from modelstore.ops.clone import clone
from modelstore.ops.fsck import Level, fsck, parse_subset
from modelstore.ops.restore import plan_restore, restore
from modelstore.ops.restore_files import plan_files, restore_files
from modelstore.store import Store, create
from tests.models import files_of
from tests.ops.remotes import LINE, assert_quick, commit_model, files_out, pull_from, push_to
from tests.remotes.proxy import Fault, Proxy
from tests.remotes.scenes import (
    VERBS,
    Files,
    Spot,
    all_files,
    burst,
    from_then_on,
    kill,
    once,
    scene,
    spot_in,
    then,
    words_of,
)
from tests.remotes.servers import Ceph, Place, rclone_s3

pytestmark = pytest.mark.remote


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return create(tmp_path / "store")


# --- everything works


def test_what_is_pushed_is_pulled_and_cloned(
    line: Store, content: Files, anywhere: Place, tmp_path: Path
) -> None:
    """Another store has the same versions, byte for byte, whole or as far as it reads them."""
    spot = spot_in(anywhere)
    assert push_to(line, spot.remote()).versions == ("v1.0", "v1.1", "v1.2")
    assert push_to(line, spot.remote()).outcome == "same"
    other = create(tmp_path / "other")
    pull_from(other, spot.remote())
    assert all_files(other) == content
    made = clone(spot.near, tmp_path / "clone", environment=anywhere.environment).store
    assert all_files(made) == content
    assert_quick(made)
    lazy = tmp_path / "lazy"
    clone(spot.near, lazy, lazy=True, environment=anywhere.environment)
    run = spot.run(lazy, "checkout", f"{LINE}@v1.1")
    _, said = run.communicate(timeout=60)
    assert run.returncode == 0, said
    weights = (lazy / LINE / "v1.1" / "model.safetensors").read_bytes()
    assert weights == content["v1.1"]["model.safetensors"]


def test_a_backup_restores_and_is_pruned(store: Store, anywhere: Place, tmp_path: Path) -> None:
    """What an old backup alone needs goes in the second sweep; the newest restores all the while."""
    remote = spot_in(anywhere).remote()
    commit_model(store, tmp_path / "run")
    backup(store, remote)
    first = all_files(store)
    gone = restore(remote, plan_restore(remote, tmp_path / "first"), files=True).store
    assert all_files(gone) == first
    plan = plan_files(remote, tmp_path / "plain", f"{LINE}@v1.0")
    restore_files(remote, plan)
    assert files_of(tmp_path / "plain") == first["v1.0"]
    other = create(tmp_path / "another")
    commit_model(other, tmp_path / "run", step=1.0)
    backup(other, remote)
    policy, content = BackupPolicy(last=1), all_files(other)
    time.sleep(1.1)  # marks are younger than frames, by a clock of whole seconds
    marked = prune(remote, plan_prune(remote, policy), timedelta(0))
    assert (len(marked.backups), marked.frames, marked.waiting > 0) == (1, 0, True)
    time.sleep(1.1)
    swept = prune(remote, plan_prune(remote, policy), timedelta(0))
    assert (swept.frames, swept.waiting) == (marked.waiting, 0)
    assert check(remote, parse_subset("100%")).sound
    back = restore(remote, plan_restore(remote, tmp_path / "back")).store
    assert all_files(back) == content


def test_a_push_to_a_server_that_would_lose_it_is_refused(line: Store, tmp_path: Path) -> None:
    """A server without conditional writes gets no registry."""
    with rclone_s3(tmp_path) as place:
        remote = spot_in(place).remote()
        with pytest.raises(RemoteError, match="cannot keep registries"):
            push_to(line, remote)
        assert not [found for found in remote.list() if found.key.startswith("models")]


# --- a network that fails


FAULTS = (
    Fault(reset_request_at=0),
    Fault(lose_reply=True),
    Fault(reset_reply_at=40),
    Fault(status=503),
    Fault(twice=True),
    Fault(cut_reply_at=40),
    Fault(cut_reply_at=0),
    Fault(status=500),
    Fault(status=429),
    Fault(delay=0.2),
)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_fault_at_any_request_passes_or_is_told(
    line: Store,
    content: Files,
    source: Spot,
    bucket: Place,
    proxy: Proxy,
    tmp_path: Path,
    verb: str,
) -> None:
    """Whichever request is hit, and however, the verb succeeds or raises, and then a second does."""
    for hit in range(24):
        for fault in (FAULTS[hit % len(FAULTS)], FAULTS[(hit + 3) % len(FAULTS)]):
            at = scene(verb, line, source, spot_in(bucket, proxy), tmp_path)
            proxy.begin(once(hit, fault))
            try:
                at.act(at.spot.far_remote())
            except StoreError:
                at.act(at.spot.remote())
            assert at.result() == content, (hit, fault)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_burst_of_refusals_passes(
    line: Store,
    content: Files,
    source: Spot,
    bucket: Place,
    proxy: Proxy,
    tmp_path: Path,
    verb: str,
    status: int,
) -> None:
    """A server that refuses four requests in a row is asked again, and nobody notices."""
    for hit in (0, 5, 11, 17):
        at = scene(verb, line, source, spot_in(bucket, proxy), tmp_path)
        proxy.begin(burst(hit, Fault(status=status)))
        at.act(at.spot.far_remote())
        assert at.result() == content, hit


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_network_that_dies_at_any_request(
    line: Store,
    content: Files,
    source: Spot,
    bucket: Place,
    proxy: Proxy,
    tmp_path: Path,
    verb: str,
) -> None:
    """From some request on nothing is answered as it should be: that is told, and nothing is half."""
    for hit in range(100):
        at = scene(verb, line, source, spot_in(bucket, proxy), tmp_path)
        proxy.begin(from_then_on(hit, Fault(status=403)))
        try:
            at.act(at.spot.far_remote())
        except StoreError:
            if verb == "backup":
                assert not read_all(at.spot.remote())
            at.act(at.spot.remote())
            assert at.result() == content, hit
        else:
            assert at.result() == content
            break
    assert hit > 5


# --- those who race


PUSHER = """
import os
import sys
from pathlib import Path
from modelstore.errors import ConflictError
from modelstore.ops.pull import pull
from modelstore.ops.push import push
from modelstore.ops.remotes import opened
from modelstore.store import Store

store = Store(Path(sys.argv[1]))
store.environment = dict(os.environ)
for _ in range(100):
    with opened(store, sys.argv[2]) as place:
        [done] = push(store, place)
        if done.error is None:
            sys.exit(0)
        if not isinstance(done.error, ConflictError):
            raise done.error
        pull(store, place, rebase=True)
sys.exit(1)
"""


@pytest.mark.slow
def test_of_eight_who_push_at_once_nobody_loses_anything(bucket: Place, tmp_path: Path) -> None:
    """Each pushes its version after a pull --rebase or two; in the end every version is there, once."""
    spot = spot_in(bucket)
    first = create(tmp_path / "first")
    commit_model(first, tmp_path / "run")
    push_to(first, spot.remote())
    stores = [create(tmp_path / f"store{number}") for number in range(8)]
    expected = {files_out(first, "v1.0")["model.safetensors"]}
    for number, store in enumerate(stores, 1):
        pull_from(store, spot.remote())
        commit_model(store, tmp_path / "run", step=number * 1e-3)
        expected.add(files_out(store, "v1.1")["model.safetensors"])
    environment = {**os.environ, **bucket.environment}
    command = [sys.executable, "-c", PUSHER]
    runs = [
        subprocess.Popen([*command, store.root, spot.near], env=environment) for store in stores
    ]
    assert [run.wait(timeout=200) for run in runs] == [0] * 8
    pull_from(first, spot.remote())
    files = all_files(first)
    assert list(files) == [f"v1.{number}" for number in range(9)]
    assert {one["model.safetensors"] for one in files.values()} == expected
    assert fsck(first, Level.FULL).sound


# --- kill -9


def kill_gateway(ceph: Ceph, threads: list[threading.Thread]) -> None:
    """Kill the gateway; a thread starts it again, after a while."""

    def start() -> None:
        time.sleep(0.3)
        ceph.start_gateway()

    ceph.kill_gateway()
    threads.append(threading.Thread(target=start))
    threads[0].start()


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_client_that_is_killed_goes_on(
    line: Store,
    content: Files,
    source: Spot,
    bucket: Place,
    proxy: Proxy,
    tmp_path: Path,
    verb: str,
) -> None:
    """Killed at some request, the next run completes what it began, with every byte."""
    for hit in (2, 7, 13, 21):
        at = scene(verb, line, source, spot_in(bucket, proxy), tmp_path)
        root = at.root if verb == "pull" else line.root
        if verb == "pull":
            create(root)
        runs: list[subprocess.Popen[bytes]] = []
        proxy.begin(then(hit, partial(kill, runs)))
        runs.append(at.spot.run(root, *words_of(verb, at.spot.far, at.root)))
        _, said = runs[0].communicate(timeout=120)
        code = runs[0].returncode
        assert code in {0, -9}, said
        assert code == -9 or hit > 10
        if verb == "backup" and code:
            assert not read_all(at.spot.remote())
        at.act(at.spot.remote())
        assert at.result() == content, hit


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_gateway_that_is_killed_comes_back(
    line: Store,
    content: Files,
    source: Spot,
    bucket: Place,
    ceph: Ceph,
    proxy: Proxy,
    tmp_path: Path,
    verb: str,
) -> None:
    """The verb waits for it, or says that it is down; then another run completes it."""
    for hit in (4, 16):
        at = scene(verb, line, source, spot_in(bucket, proxy), tmp_path)
        threads: list[threading.Thread] = []
        proxy.begin(then(hit, partial(kill_gateway, ceph, threads)))
        try:
            at.act(at.spot.far_remote())
        except RemoteError:
            threads[0].join()
            at.act(at.spot.remote())
        for thread in threads:
            thread.join()
        assert at.result() == content, hit

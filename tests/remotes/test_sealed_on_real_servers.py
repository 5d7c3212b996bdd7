"""Encrypted remotes at real servers: all verbs, and nothing that tells what is there."""

from __future__ import annotations

import subprocess
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from modelstore.errors import StoreError, WrongKeyError
from modelstore.ops.backup import backup
from modelstore.ops.backup_check import check
from modelstore.ops.backup_document import read_all
from modelstore.ops.backup_prune import plan_prune, prune
from modelstore.ops.backup_retention import BackupPolicy
from modelstore.ops.clone import clone
from modelstore.ops.fsck import parse_subset
from modelstore.ops.restore import plan_restore, restore
from modelstore.remotes.keyfile import new_key_file
from modelstore.remotes.opening import open_remote
from modelstore.store import Store, create
from tests.ops.remotes import LINE, commit_model, pull_from, push_to
from tests.remotes.proxy import Fault, Proxy
from tests.remotes.scenes import (
    VERBS,
    Files,
    Spot,
    all_files,
    kill,
    new,
    once,
    scene,
    spot_in,
    then,
    words_of,
)
from tests.remotes.servers import Place

pytestmark = pytest.mark.remote


def new_key(tmp_path: Path) -> Path:
    """Write a key file."""
    path = new(tmp_path)
    path.write_bytes(new_key_file())
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A key file."""
    return new_key(tmp_path)


@pytest.fixture
def sealed(line: Store, bucket: Place, proxy: Proxy, key: Path) -> Spot:
    """An encrypted place at Ceph that has everything, pushed and backed up."""
    spot = spot_in(bucket, proxy, key)
    push_to(line, spot.remote())
    backup(line, spot.remote())
    return spot


# --- everything works


def test_what_is_pushed_comes_back_with_the_key(
    line: Store, content: Files, anywhere: Place, key: Path, tmp_path: Path
) -> None:
    """Pushed and pulled, cloned whole and lazily: every byte, by the commands, too."""
    spot = spot_in(anywhere, key=key)
    push_to(line, spot.remote())
    assert push_to(line, spot.remote()).outcome == "same"
    other = create(tmp_path / "other")
    pull_from(other, spot.remote())
    assert all_files(other) == content
    made = clone(spot.near, tmp_path / "clone", environment=spot.environment).store
    assert all_files(made) == content
    lazy = tmp_path / "lazy"
    clone(spot.near, lazy, lazy=True, environment=spot.environment)
    run = spot.run(lazy, "checkout", f"{LINE}@v1.1")
    _, said = run.communicate(timeout=60)
    assert run.returncode == 0, said
    weights = (lazy / LINE / "v1.1" / "model.safetensors").read_bytes()
    assert weights == content["v1.1"]["model.safetensors"]


@pytest.mark.slow
def test_backups_are_incremental_restore_and_are_pruned(
    anywhere: Place, key: Path, tmp_path: Path
) -> None:
    """As at a place in the clear: nothing goes twice, and what is kept restores all the while."""
    remote, store = spot_in(anywhere, key=key).remote(), create(tmp_path / "store")
    commit_model(store, tmp_path / "run", step=1.0)
    backup(store, remote)
    assert backup(store, remote).frames == 0
    other = create(tmp_path / "other")
    commit_model(other, tmp_path / "run")
    backup(other, remote)
    policy = BackupPolicy(last=1)
    time.sleep(1.1)  # marks are younger than frames, by a clock of whole seconds
    marked = prune(remote, plan_prune(remote, policy), timedelta(0))
    assert (len(marked.backups), marked.frames, marked.waiting > 0) == (2, 0, True)
    time.sleep(1.1)
    assert prune(remote, plan_prune(remote, policy), timedelta(0)).frames == marked.waiting
    assert check(remote, parse_subset("100%")).sound
    back = restore(remote, plan_restore(remote, tmp_path / "back")).store
    assert all_files(back) == all_files(other)


def test_nothing_there_tells_what_it_is(line: Store, anywhere: Place, key: Path) -> None:
    """Neither names nor values show models, versions, digests, or any text of a manifest."""
    spot = spot_in(anywhere, key=key)
    push_to(line, spot.remote())
    backup(line, spot.remote())
    inner = open_remote(spot.near, anywhere.environment)
    names = [found.key for found in inner.list()]
    digests = [str(digest) for digest in line.blobs.iter_digests()]
    words = ["blobs", "models", "registry", "backups", "v1.", *digests]
    assert [name for name in names if any(word in name for word in words)] == []
    values = b"".join(inner.get(name) for name in names)
    told = [b"safetensors", b"config.json", b"active_version", b"LlamaFor", digests[0].encode()]
    assert [text for text in told if text in values] == []


def test_another_key_opens_nothing(line: Store, bucket: Place, key: Path, tmp_path: Path) -> None:
    """Without the key, or with another, every command ends with 12 and changes nothing."""
    spot = spot_in(bucket, key=key)
    backup(line, spot.remote())
    other = Spot(spot.place, spot.near, spot.far, new_key(tmp_path))
    with pytest.raises(WrongKeyError):
        other.remote()
    for stranger, words in (
        (other, ["push", spot.near]),
        (other, ["clone", spot.near, str(tmp_path / "copy")]),
        (Spot(spot.place, spot.near, spot.far), ["backup", spot.near]),
        (Spot(spot.place, spot.near, spot.far), ["restore", spot.near, str(tmp_path / "copy")]),
    ):
        run = stranger.run(line.root, *words)
        _, said = run.communicate(timeout=60)
        assert run.returncode == 12, (words, said)
        assert b"Traceback" not in said
    assert not (tmp_path / "copy").exists()
    assert len(read_all(spot.remote())) == 1


# --- a network that fails, and clients that are killed


FAULTS = (
    Fault(lose_reply=True),
    Fault(reset_reply_at=40),
    Fault(reset_request_at=0),
    Fault(twice=True),
    Fault(status=503),
    Fault(cut_reply_at=40),
)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_fault_at_any_request_passes_or_is_told(
    line: Store,
    content: Files,
    sealed: Spot,
    bucket: Place,
    proxy: Proxy,
    key: Path,
    tmp_path: Path,
    verb: str,
) -> None:
    """Whichever request is hit, the verb succeeds or raises, and then a second does."""
    for hit in range(24):
        at = scene(verb, line, sealed, spot_in(bucket, proxy, key), tmp_path)
        proxy.begin(once(hit, FAULTS[hit % len(FAULTS)]))
        try:
            at.act(at.spot.far_remote())
        except StoreError:
            at.act(at.spot.remote())
        assert at.result() == content, hit


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_client_that_is_killed_goes_on(
    line: Store,
    content: Files,
    sealed: Spot,
    bucket: Place,
    proxy: Proxy,
    key: Path,
    tmp_path: Path,
    verb: str,
) -> None:
    """Killed at some request, the next run completes what it began, with every byte."""
    for hit in (3, 10, 17):
        at = scene(verb, line, sealed, spot_in(bucket, proxy, key), tmp_path)
        root = at.root if verb == "pull" else line.root
        if verb == "pull":
            create(root)
        runs: list[subprocess.Popen[bytes]] = []
        proxy.begin(then(hit, partial(kill, runs)))
        runs.append(at.spot.run(root, *words_of(verb, at.spot.far, at.root)))
        _, said = runs[0].communicate(timeout=120)
        assert runs[0].returncode in {0, -9}, said
        at.act(at.spot.remote())
        assert at.result() == content, hit

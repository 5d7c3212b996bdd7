"""Exports that are killed anywhere, or find the disk full: nothing half written has a name."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from modelstore.errors import DiskFullError
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.hub_cache import CacheEntry
from modelstore.store import Store
from tests.crashes import crashes
from tests.exports import MODEL, exported, gguf_bytes, two_versions
from tests.faults import Failing, exchanged, is_change

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

REPO = f"mstore/{MODEL}"


def _git_name(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _check_cache(place: Path, *, done: bool) -> None:
    """Fail unless all that has a name in the cache is whole."""
    entry = CacheEntry.of(place, REPO)
    for blob in entry.blobs.glob("*"):
        data = blob.read_bytes()
        assert blob.name in {hashlib.sha256(data).hexdigest(), _git_name(data)}
    for commit_id in entry.commits():
        files = [p for p in (entry.snapshots / commit_id).rglob("*") if not p.is_dir()]
        assert len(files) == 6
        assert all(path.is_file() for path in files)
    assert {p.name for p in entry.snapshots.glob("*")} == set(entry.commits())
    refs = [path.name for path in entry.refs.glob("*")]
    assert all(entry.ref(name) in entry.commits() for name in refs)
    assert not done or {"v1.0", "v1.1", "main"} == set(refs)


def _check_layout(place: Path, *, done: bool) -> None:
    """Fail unless all that has a name in the OCI layout is whole."""
    for blob in place.glob("blobs/sha256/*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    index = place / "index.json"
    images = json.loads(index.read_text())["manifests"] if index.exists() else []
    assert not images or (place / "oci-layout").exists()
    for image in images:
        manifest = json.loads(_named(place, image).read_text())
        assert all(_named(place, one).exists() for one in (manifest["config"], *manifest["layers"]))
    assert not done or len(images) == 2


def _named(place: Path, descriptor: dict[str, str]) -> Path:
    return place / "blobs" / descriptor["digest"].replace(":", "/")


def _check_gguf(place: Path, *, done: bool) -> None:
    """Fail unless the GGUF file is whole, and there before a Modelfile names it."""
    found = {path.name: path.read_bytes() for path in place.glob("[!.]*")}
    whole = {"model.gguf": gguf_bytes(), "Modelfile": b"FROM ./model.gguf\n"}
    assert found.items() <= whole.items()
    assert "Modelfile" not in found or "model.gguf" in found
    assert not done or found == whole


Check = Callable[..., None]
LAYOUTS: dict[str, tuple[str, Check]] = {
    "hf-cache": (f"{MODEL}@v1.1", _check_cache),
    "oci": (f"{MODEL}@v1.1", _check_layout),
    "gguf-passthrough": ("packed@v1.0", _check_gguf),
}


def _begun(store: Store, place: Path, to: str) -> None:
    if to != "gguf-passthrough":
        exported(store, f"{MODEL}@v1.0", to, place)


def _left(place: Path) -> Iterator[Path]:
    return place.rglob(".mstore-*")


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """A store with two versions, and one of a GGUF file."""
    two_versions(store, tmp_path / "made")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/model.gguf").write_bytes(gguf_bytes())
    commit(store, tmp_path / "packed", ModelName("packed"), CommitOptions())
    return store


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("to", LAYOUTS)
def test_killed_anywhere(filled: Store, tmp_path: Path, to: str, stride: int) -> None:
    """What is there is whole, and the same command brings the rest and clears up."""
    ref, check = LAYOUTS[to]
    for step in range(1, 400, stride):
        place = tmp_path / f"out{step}"
        _begun(filled, place, to)

        def act(place: Path = place) -> None:
            exported(Store(filled.root), ref, to, place)

        died = crashes(act, step)
        check(place, done=not died)
        act()
        check(place, done=True)
        assert list(_left(place)) == []
        if not died:
            break
    assert step > 10


@pytest.mark.parametrize("lasting", [True, False])
@pytest.mark.parametrize("to", LAYOUTS)
def test_the_disk_is_full(filled: Store, tmp_path: Path, to: str, lasting: bool) -> None:
    """Whichever call finds no room, the error says so, and what has a name is whole."""
    ref, check = LAYOUTS[to]
    names = {"open", "pwrite", "mkdir", "symlink", "rename"}
    for step in range(1, 200, 3):
        place = tmp_path / f"out{step}"
        _begun(filled, place, to)
        calls = Failing(
            step,
            errno.ENOSPC,
            lambda name, arguments: name in names and is_change(name, arguments),
            lasting=lasting,
        )
        with suppress(DiskFullError), exchanged(calls):
            exported(filled, ref, to, place)
        check(place, done=not calls.failed)
        exported(filled, ref, to, place)
        check(place, done=True)
        if not calls.failed:
            return
    raise AssertionError("it never got through")

"""Uploads: files that are put on top of a version make the next one, or nothing happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.errors import ConflictError, UsageError
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.pointer import set_active
from modelstore.ops.publish import OutdatedPointerError, Pointer
from modelstore.ops.resolve import Resolved, resolve
from modelstore.ops.tree import Found
from modelstore.ops.upload import Changed, upload
from modelstore.store import Store, create
from tests.models import write_model

MODEL = ModelName("tiny")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with v1.0 of a line."""
    store = create(tmp_path / "tuned_models")
    commit(store, write_model(tmp_path / "model"), MODEL, CommitOptions("first"))
    return store


def found(tmp_path: Path, path: str, data: bytes) -> Found:
    """Return a file that was uploaded."""
    source = tmp_path / path.replace("/", "_")
    source.write_bytes(data)
    return Found(path, source, len(data), executable=False)


def on(parent: Resolved, *added: Found, alias: str = "", store: Store) -> Changed:
    """Return the files of a version, and further ones."""
    kept = store.manifest(MODEL, parent.entry).files
    taken = {file.path for file in added}
    pointer = Pointer(alias, str(parent.entry.version))
    return Changed(parent, pointer, [file for file in kept if file.path not in taken], added)


def test_what_is_not_uploaded_is_not_read(store: Store, tmp_path: Path) -> None:
    """The version has the files of its parent by their digests, and costs what is new in it."""
    first = resolve(store, "tiny@v1.0")
    made = upload(
        store,
        MODEL,
        on(first, found(tmp_path, "a.txt", b"a"), store=store),
        CommitOptions("second"),
    )
    assert (str(made), store.state(MODEL).active) == ("tiny@v1.1", "v1.1")
    sizes = made.entry.mapping("sizes")
    assert isinstance(sizes["stored"], int)
    assert sizes["stored"] < 200
    checkout(store, made, output=tmp_path / "out")
    for path in (tmp_path / "model").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"a"


def test_weights_are_made_against_those_of_the_parent(store: Store, tmp_path: Path) -> None:
    """A fine-tune that is uploaded costs what one that is committed costs."""
    tuned = write_model(tmp_path / "tuned", step=1e-5) / "model.safetensors"
    first = resolve(store, "tiny@v1.0")
    change = on(first, found(tmp_path, "model.safetensors", tuned.read_bytes()), store=store)
    stored = upload(store, MODEL, change, CommitOptions("second")).entry.mapping("sizes")["stored"]
    other = create(tmp_path / "other")
    commit(other, tmp_path / "model", MODEL, CommitOptions("first"))
    done = commit(other, tmp_path / "tuned", MODEL, CommitOptions("second"))
    assert isinstance(stored, int)
    assert abs(stored - done.stored) < 200  # manifests differ by a few bytes


def test_a_pointer_that_was_moved_stops_it(store: Store, tmp_path: Path) -> None:
    """Compare and swap: what was uploaded for one version is not put on top of another."""
    first = resolve(store, "tiny@v1.0")
    change = on(first, found(tmp_path, "a.txt", b"a"), store=store)
    upload(store, MODEL, change, CommitOptions("second"))
    before = store.state(MODEL)
    with pytest.raises(OutdatedPointerError, match=r"ACTIVE of tiny is v1\.1 by now, not v1\.0"):
        upload(store, MODEL, change, CommitOptions("third"))
    assert store.state(MODEL).seq == before.seq
    set_active(store, first)
    with pytest.raises(OutdatedPointerError, match="dev of tiny is not set by now"):
        upload(
            *(store, MODEL, on(first, *change.added, alias="dev", store=store)),
            CommitOptions("third"),
        )


def test_a_version_has_files_that_can_lie_side_by_side(store: Store, tmp_path: Path) -> None:
    """No files, or two that one system takes for one, make no version."""
    first = resolve(store, "tiny@v1.0")
    pointer = Pointer("", "v1.0")
    with pytest.raises(UsageError, match="at least one file"):
        upload(store, MODEL, Changed(first, pointer, [], []), CommitOptions("none"))
    change = on(first, found(tmp_path, "Config.json", b"{}"), store=store)
    with pytest.raises(ConflictError, match="side by side"):
        upload(store, MODEL, change, CommitOptions("two"))


def test_the_first_upload_makes_the_line(store: Store, tmp_path: Path) -> None:
    """Without a parent it is v1.0, and ACTIVE."""
    change = Changed(None, Pointer("", ""), [], [found(tmp_path, "a.txt", b"a")])
    made = upload(store, ModelName("fresh"), change, CommitOptions("first"))
    assert str(made) == "fresh@v1.0"
    assert store.state(ModelName("fresh")).active == "v1.0"
    with pytest.raises(OutdatedPointerError):
        upload(store, ModelName("fresh"), change, CommitOptions("again"))

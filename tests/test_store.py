from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from modelstore.errors import (
    ConflictError,
    IntegrityError,
    LockTimeoutError,
    NewerFormatError,
    NoStoreError,
    NotFoundError,
    StoreError,
)
from modelstore.hashing import digest_of
from modelstore.manifest import Manifest, encode
from modelstore.names import parse_model
from modelstore.state import Change, Entry
from modelstore.store import Store, create, find, model_of_path, now

M = parse_model("llama_1b")
ORIGIN = Change("init")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one empty model."""
    store = create(tmp_path / "tuned_models")
    store.change(M, lambda _: ORIGIN)
    return store


def tree(root: Path) -> dict[str, bytes]:
    """Return every file below ``root``."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# --- making one


def test_creating_twice_changes_nothing(store: Store) -> None:
    """`init` is idempotent."""
    before = tree(store.root)
    assert create(store.root).root == store.root
    assert tree(store.root) == before


def test_a_new_store_is_complete(store: Store) -> None:
    """All directories are there from the start, and Git is told what to leave out."""
    names = {path.name for path in store.meta.iterdir()}
    assert {"blobs", "refs", "tmp", "trash", "quarantine", "adopted", "locks", "runs"} <= names
    assert len(list((store.meta / "blobs").iterdir())) == 256
    assert json.loads((store.meta / "format.json").read_text()) == {
        "format": 1,
        "features": [],
        "mstore": "0.1",
    }
    rules = (store.root / ".gitignore").read_text().splitlines()
    assert "/.mstore/" in rules
    assert "!model_registry.json" in rules


def test_the_users_own_files_are_kept(tmp_path: Path) -> None:
    """A README and a .gitignore that were there stay as they are."""
    for name in (".gitignore", "README.md"):
        (tmp_path / name).write_text("mine")
    create(tmp_path)
    assert (tmp_path / ".gitignore").read_text() == "mine"
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_store_within_a_store_is_refused(store: Store) -> None:
    """However deep; nothing is made."""
    for inner in (store.root / "x", store.root / "llama_1b/v1.0/y"):
        with pytest.raises(ConflictError, match="lies within the store") as caught:
            create(inner)
        assert str(store.root) in caught.value.hint
        assert not inner.exists()


def test_dots_lead_out_of_a_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path from within a store to a place beside it is of that place."""
    monkeypatch.chdir(store.root)
    beside = Path("../beside")
    with pytest.raises(NoStoreError):
        find(beside)
    assert create(beside).root.resolve() == store.root.parent / "beside"
    assert find(beside) == store.root.parent / "beside"
    with pytest.raises(ConflictError, match="lies within the store"):
        create(Path("../tuned_models/inner"))


def test_a_file_cannot_become_a_store(tmp_path: Path) -> None:
    """The error names it."""
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot create"):
        create(tmp_path / "f")


# --- finding one


@pytest.mark.parametrize(
    "start", [".", "tuned_models", "tuned_models/llama_1b", "tuned_models/llama_1b/v1.0/sub",
     "src", "src/deep"]
)  # fmt: skip
def test_a_store_is_found_from_within_beside_and_below(store: Store, start: str) -> None:
    """From a version's directory, from the project, and from any directory of the project."""
    place = store.root.parent / start
    place.mkdir(parents=True, exist_ok=True)
    assert find(place) == store.root


@pytest.mark.parametrize("start", [".", "tuned_models/llama_1b", "src"])
def test_a_clone_of_the_small_files_is_a_store(store: Store, start: str) -> None:
    """Without .mstore too; the first change makes it again."""
    shutil.rmtree(store.meta)
    place = store.root.parent / start
    place.mkdir(exist_ok=True)
    cloned = Store(find(place))
    assert cloned.models() == [M]
    assert not cloned.meta.exists()
    assert cloned.change(M, lambda _: Change("note")).seq == 2
    assert (cloned.meta / "format.json").is_file()
    assert len(list((cloned.meta / "blobs").iterdir())) == 256


def test_the_current_directory_is_as_good_as_its_path(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative start has parents too."""
    (store.root / "llama_1b/v1.0").mkdir()
    monkeypatch.chdir(store.root / "llama_1b/v1.0")
    assert find(Path()) == store.root


def test_the_nearer_store_is_taken(store: Store) -> None:
    """A project within a project has its own."""
    inner = create(store.root.parent / "sub/tuned_models")
    inner.change(M, lambda _: ORIGIN)
    assert find(inner.root / "llama_1b") == inner.root
    assert find(store.root.parent / "sub") == inner.root


def test_where_there_is_none(tmp_path: Path) -> None:
    """Exit code 10, and the hint makes one."""
    for look in (find, Store):
        with pytest.raises(NoStoreError, match="there is no store") as caught:
            look(tmp_path)
        assert caught.value.exit_code == 10
        assert "mstore init" in caught.value.hint


def test_a_mistyped_place_finds_no_store_beside_it(store: Store) -> None:
    """Else what was meant for another store would go to this one."""
    with pytest.raises(NoStoreError, match="there is no directory"):
        find(store.root.parent / "tuned_modles")


def test_our_own_registries_are_not_called_foreign(store: Store) -> None:
    """The directory beside a store is no store, and that is all that is said."""
    with pytest.raises(NoStoreError, match="there is no store") as caught:
        Store(store.root.parent)
    assert "did not make" not in str(caught.value)


@pytest.mark.parametrize("start", [".", "tuned_models", "tuned_models/llama_1b", "src"])
def test_the_registries_of_another_tool_are_no_store(tmp_path: Path, start: str) -> None:
    """The hint is to adopt their directory."""
    directory = tmp_path / "tuned_models/llama_1b"
    directory.mkdir(parents=True)
    (directory / "model_registry.json").write_text('{"model_type": "llama_1b", "versions": {}}')
    (tmp_path / "src").mkdir()
    with pytest.raises(NoStoreError, match="mstore did not make") as caught:
        find(tmp_path / start)
    assert caught.value.hint == f"mstore adopt {tmp_path / 'tuned_models'}"


# --- its format


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"format": "1"}, {"features": ["pack"]}, {"features": [["odd"]]}]
)
def test_a_newer_format_is_refused(store: Store, change: dict[str, Any]) -> None:
    """Exit code 13, and what is needed is said."""
    path = store.meta / "format.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mstore": "0.9", **change}))
    with pytest.raises(NewerFormatError, match=r"needs mstore 0\.9") as caught:
        Store(store.root)
    assert caught.value.exit_code == 13
    assert caught.value.hint == "pip install -U mstore"
    assert "[]" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1, "features": 5}'])
def test_a_damaged_format_is_an_integrity_error(store: Store, text: str) -> None:
    """It is not taken for an old one, or a new one."""
    (store.meta / "format.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"format\.json"):
        Store(store.root)


# --- models


def test_models_are_the_directories_with_a_registry_of_ours(store: Store) -> None:
    """Sorted; not foreign ones, not copies under names that cannot be, not stray directories."""
    other = parse_model("a-model")
    store.change(other, lambda _: ORIGIN)
    view = (store.root / M / "model_registry.json").read_bytes()
    for name in ("llama_1b (copy)", ".tmp", "v1.0"):
        (store.root / name).mkdir()
        (store.root / name / "model_registry.json").write_bytes(view)
    (store.root / "foreign").mkdir()
    (store.root / "foreign/model_registry.json").write_text("{}")
    (store.root / "stray").mkdir()
    assert store.models() == [other, M]
    shutil.rmtree(store.root / M)
    assert store.models() == [other, M]


def test_the_model_of_a_path(store: Store, tmp_path: Path) -> None:
    """And what lies below it; nothing for the store itself, its .mstore and other places."""
    assert model_of_path(store, store.root / "llama_1b/v1.0/config.json") == (M, "v1.0")
    assert model_of_path(store, store.root / "llama_1b") == (M, "")
    (tmp_path / "link").symlink_to(store.root / "llama_1b")
    assert model_of_path(store, tmp_path / "link/v1.1") == (M, "v1.1")
    for outside in (store.root, store.meta / "refs/llama_1b", tmp_path, store.root / ".x/y"):
        assert model_of_path(store, outside) is None


# --- manifests


def _entry(store: Store, manifest: Manifest) -> Entry:
    data = encode(manifest)
    directory = store.root / M / "v1.0"
    directory.mkdir(exist_ok=True)
    (directory / "manifest.json").write_bytes(data)
    values = {"id": digest_of(data)}
    entry = store.change(M, lambda _: Change("commit", {"v1.0": values})).entry("v1.0")
    assert entry is not None
    return entry


def test_a_clone_reads_manifests_from_the_version_directories(store: Store) -> None:
    """They are checked against the registry, and nothing else is taken for them."""
    manifest = Manifest((), message="m")
    entry = _entry(store, manifest)
    assert store.manifest(M, entry) == manifest
    path = store.root / M / "v1.0/manifest.json"
    path.write_bytes(encode(Manifest((), message="x")))
    with pytest.raises(IntegrityError, match="is not the manifest it should be"):
        store.manifest(M, entry)
    path.unlink()
    with pytest.raises(NotFoundError, match=r"manifest of llama_1b@v1\.0 is not here"):
        store.manifest(M, entry)
    with pytest.raises(NotFoundError, match="files are missing") as caught:
        store.manifest(M, Entry(entry.version, {}))
    assert "mstore adopt" in caught.value.hint


# --- changing


def test_changes_from_many_threads_are_all_made(store: Store) -> None:
    """One after another, under one lock."""

    def run(number: int) -> None:
        for n in range(3):
            Store(store.root).change(M, lambda _, n=n: Change("commit", {f"v{number}.{n}": {}}))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = store.state(M)
    assert state.seq == 13
    assert len(state.versions()) == 12


def test_the_lock_has_a_limit(store: Store) -> None:
    """Another holder is waited for as long as the store says."""
    other = Store(store.root)
    other.lock_timeout = 0.05
    with store.lock(), pytest.raises(LockTimeoutError):
        other.change(M, lambda _: Change("note"))
    assert other.change(M, lambda _: Change("note")).seq == 2


def test_settings_are_kept_and_removed(store: Store) -> None:
    """An empty value removes; an unchanged one writes nothing."""
    assert store.config() == {}
    store.configure({"default_model": "llama_1b", "last_model": "x"})
    path = store.meta / "config.json"
    before = path.stat()
    store.configure({"last_model": "x"})
    assert path.stat().st_ino == before.st_ino
    store.configure({"last_model": ""})
    assert Store(store.root).config() == {"default_model": "llama_1b"}


def test_now_is_utc_in_whole_seconds() -> None:
    """As RFC 3339 writes it."""
    assert len(now()) == len("2026-01-01T00:00:00Z")
    assert now().endswith("Z")

"""Records of what was checked out where."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from modelstore.names import ModelName
from modelstore.ops import working
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import Resolved, resolve
from modelstore.ops.status import status
from modelstore.store import Store
from tests.models import write_model

MODEL = ModelName("llama_1b")


@pytest.fixture
def versions(store: Store, tmp_path: Path) -> tuple[Resolved, Resolved]:
    """Two versions of a model."""
    source = tmp_path / "run"
    for step in (0.0, 0.001):
        commit(store, write_model(source, step=step), MODEL, CommitOptions())
    return resolve(store, "v1.0"), resolve(store, "v1.1")


@pytest.mark.parametrize("way", ["copied", "moved"])
def test_records_of_directories_in_the_store_go_with_it(
    store: Store, versions: tuple[Resolved, Resolved], tmp_path: Path, way: str
) -> None:
    """A copied or moved store knows its own directories, and looks at nobody else's."""
    home = checkout(store, versions[0]).path
    outside = checkout(store, versions[1], output=tmp_path / "out").path
    other = tmp_path / "elsewhere"
    if way == "copied":
        shutil.copytree(store.root, other)
        (home / "config.json").write_text("a change in the original")
    else:
        store.root.rename(other)

    moved = Store(other)

    assert [copy.path for copy in status(moved).copies] == [other / MODEL / "v1.0", outside]
    assert status(moved).clean


def test_a_store_is_noted_alike_however_it_is_reached(
    store: Store, versions: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """Through a symlink the same directory has the same record."""
    home = checkout(store, versions[0]).path
    (tmp_path / "link").symlink_to(store.root)
    linked = Store(tmp_path / "link")

    known = working.checkout_at(linked, tmp_path / "link" / MODEL / "v1.0")

    assert known is not None
    assert known == working.checkout_at(store, home)


def test_a_partial_checkout_tells_the_parent(
    store: Store, versions: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """What is committed from some files of v1.0 comes from v1.0, not from the latest."""
    out = checkout(store, versions[0], output=tmp_path / "out", files=["config.json"]).path
    (out / "config.json").write_text("{}")

    assert commit(store, out, MODEL, CommitOptions()).parent == "llama_1b@v1.0"


def test_parts_add_up(store: Store, versions: tuple[Resolved, Resolved], tmp_path: Path) -> None:
    """Once the parts of a version are all there, the directory is as if written at once."""
    out = tmp_path / "out"
    for pattern, partial in (("config.json", True), ("tok*", True), ("*.safetensors", False)):
        checkout(store, versions[0], output=out, files=[pattern])
        known = working.checkout_at(store, out)
        assert known is not None
        assert known.partial is partial
    assert [copy.path for copy in status(store).copies if copy.clean] == [out]
    assert [c.path for c in working.checkouts(store)] == [out]


def test_a_file_of_another_version_does_not_make_it_that_version(
    store: Store, versions: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """A directory stays what it was written as while it holds files of that."""
    out = checkout(store, versions[0], output=tmp_path / "out").path
    checkout(store, versions[1], output=out, files=["model.safetensors"])
    known = working.checkout_at(store, out)
    assert known is not None
    assert (known.version, known.partial) == ("v1.0", False)

    shutil.rmtree(out)
    checkout(store, versions[1], output=out, files=["model.safetensors"])
    known = working.checkout_at(store, out)
    assert known is not None
    assert (known.version, known.partial) == ("v1.1", True)


def test_a_record_that_cannot_be_read_is_none(
    store: Store, versions: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """Damaged records, and those under a name that is not their directory's, count for nothing."""
    out = checkout(store, versions[0], output=tmp_path / "out").path
    (path,) = (store.meta / "checkouts").glob("*.json")
    value = json.loads(path.read_bytes())
    (store.meta / "checkouts" / "stray.json").write_text(json.dumps(value))
    assert [c.path for c in working.checkouts(store)] == [out]

    path.write_text(json.dumps({**value, "files": {"config.json": [1, 2]}}))
    assert working.checkouts(store) == []
    assert working.checkout_at(store, out) is None


def test_a_second_look_settles_the_record(
    store: Store, versions: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """A record as young as its files is not relied on; one made later is, and then is kept."""
    out = checkout(store, versions[0], output=tmp_path / "out").path
    manifest = store.manifest(MODEL, versions[0].entry)
    (path,) = (store.meta / "checkouts").glob("*.json")

    def recorded() -> bool:
        known = working.checkout_at(store, out)
        return working.is_recorded(out, versions[0], manifest.files, known)

    assert not recorded()
    value = json.loads(path.read_bytes())
    value["made_at"] += 10_000_000_000
    path.write_text(json.dumps(value, separators=(",", ":")))
    assert recorded()
    before = path.stat()
    checkout(store, versions[0], output=out)
    assert path.stat() == before

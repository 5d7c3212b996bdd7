"""Having the adapter of a version alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import modelstore
from modelstore.errors import ConflictError, NotFoundError, UsageError
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout, checkout_adapter
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import resolve
from modelstore.store import Store
from tests.loras import LAYERS, write_merge

LINE = ModelName("llama_1b")
FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture
def adapter(store: Store, tmp_path: Path) -> Path:
    """The adapter of v1.1; v1.0 has none."""
    root = write_merge(tmp_path / "made")
    commit(store, root / "base", LINE, CommitOptions())
    adapter = root / "merged" / "adapter"
    (root / "adapter").rename(adapter)
    commit(store, root / "merged", LINE, CommitOptions(adapter=adapter))
    return adapter


def _same(directory: Path, adapter: Path) -> bool:
    names = {path.name for path in directory.iterdir()}
    same = all((directory / n).read_bytes() == (adapter / n).read_bytes() for n in FILES)
    return same and names == set(FILES)


def test_it_is_written_without_its_directory(store: Store, adapter: Path, tmp_path: Path) -> None:
    """The directory is one that PEFT loads; doing it again finds all right."""
    version, out = resolve(store, "v1.1"), tmp_path / "out"
    done = checkout_adapter(store, version, output=out)
    assert (done.path, done.written, done.kept) == (out, FILES, ())
    assert _same(out, adapter)
    again = checkout_adapter(store, version, output=out)
    assert (again.written, again.kept) == ((), FILES)


def test_in_place_it_is_a_part_of_the_version(store: Store, adapter: Path) -> None:
    """Without a directory it comes to where the whole version would have it."""
    version = resolve(store, "v1.1")
    done = checkout_adapter(store, version)
    assert done.path == store.version_dir(LINE, version.entry.version) / "adapter"
    assert done.written == FILES
    assert _same(done.path, adapter)
    assert "model.safetensors" in checkout(store, version).written


def test_what_is_the_users_is_not_overwritten(store: Store, adapter: Path, tmp_path: Path) -> None:
    """Without force, a file of that name stays; and an adapter never lies where a version does."""
    version, out = resolve(store, "v1.1"), tmp_path / "out"
    out.mkdir()
    (out / FILES[0]).write_text("mine")
    with pytest.raises(ConflictError, match="would be lost") as caught:
        checkout_adapter(store, version, output=out)
    assert "--adapter -f" in caught.value.hint
    assert (out / FILES[0]).read_text() == "mine"
    checkout_adapter(store, version, output=out, force=True)
    assert _same(out, adapter)
    home = store.version_dir(LINE, version.entry.version)
    with pytest.raises(ConflictError, match="whole version"):
        checkout_adapter(store, version, output=home)
    with pytest.raises(ConflictError, match="lies in the store"):
        checkout_adapter(store, version, output=home / "adapter")


def test_a_version_without_one(store: Store, adapter: Path) -> None:
    """It is said, and nothing is written."""
    with pytest.raises(NotFoundError, match="keeps no adapter"):
        checkout_adapter(store, resolve(store, "v1.0"))


def test_it_is_no_part_of_the_model(store: Store, adapter: Path, tmp_path: Path) -> None:
    """Reading a version's tensors leaves it out, unless its files are asked for."""
    opened = modelstore.open(store.root)
    names = {f"{layer}.weight" for layer in LAYERS}
    assert opened.load("v1.1").keys() == opened.load("v1.0").keys() == names
    assert opened.load("v1.1", files="*.safetensors").keys() == names
    alone = opened.load("v1.1", files="adapter/*")
    assert len(alone) == 2 * len(LAYERS)
    done = opened.checkout("v1.1", tmp_path / "out", adapter=True)
    assert _same(done.path, adapter)
    with pytest.raises(UsageError):
        opened.checkout("v1.1", adapter=True, files="*.json")

"""Writing versions out, and taking them away again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from modelstore.errors import ConflictError, IntegrityError, NotFoundError
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout, release
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import Resolved, resolve
from modelstore.ops.status import status
from modelstore.ops.verify import verify
from modelstore.state import Entry
from modelstore.store import Store
from tests.models import files_of, write_model

LINE = ModelName("llama_1b")


@pytest.fixture
def two(store: Store, tmp_path: Path) -> tuple[Resolved, Resolved]:
    """Two versions; the second has one file more and one file less."""
    source = write_model(tmp_path / "one", files={"old.txt": "old"})
    commit(store, source, LINE, CommitOptions())
    (source / "old.txt").unlink()
    write_model(source, step=0.001, files={"sub/new.txt": "new"})
    commit(store, source, LINE, CommitOptions())
    return resolve(store, "v1.0"), resolve(store, "v1.1")


def test_files_come_out_as_they_went_in(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """A checkout elsewhere holds exactly the committed files."""
    out = checkout(store, two[1], output=tmp_path / "out").path

    assert files_of(out) == files_of(tmp_path / "one")


def test_in_place_keeps_the_small_files(store: Store, two: tuple[Resolved, Resolved]) -> None:
    """A version's own directory has its files beside manifest, README and model_info."""
    home = checkout(store, two[0]).path

    assert home == store.root / LINE / "v1.0"
    assert {"manifest.json", "README.md", "model_info.json", "old.txt"} <= set(files_of(home))


def test_again_writes_nothing(store: Store, two: tuple[Resolved, Resolved]) -> None:
    """Files that are right already are left alone."""
    checkout(store, two[0])

    again = checkout(store, two[0])

    assert again.written == ()
    assert len(again.kept) == 4


def test_switching_a_directory_to_another_version(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """An untouched checkout becomes the other version: files it lacks go, others change."""
    out = tmp_path / "out"
    checkout(store, two[0], output=out)

    done = checkout(store, two[1], output=out)

    assert done.removed == ("old.txt",)
    assert files_of(out) == files_of(tmp_path / "one")


@pytest.mark.parametrize("change", ["edit", "stale"])
def test_local_changes_are_never_overwritten(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path, change: str
) -> None:
    """An edited file, even one the new version lacks, stops the checkout; -f goes on."""
    out = tmp_path / "out"
    checkout(store, two[0], output=out)
    edited = out / {"edit": "config.json", "stale": "old.txt"}[change]
    edited.write_text("mine")
    before = files_of(out)

    with pytest.raises(ConflictError, match=edited.name) as caught:
        checkout(store, two[1], output=out)

    assert "-f" in caught.value.hint
    assert files_of(out) == before
    checkout(store, two[1], output=out, force=True)
    assert files_of(out) == files_of(tmp_path / "one")


def test_files_of_somebody_else_stay(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """A file in the way is a conflict; one that is not in the way is left alone."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    checkout(store, two[0], output=out)
    assert (out / "notes.txt").read_text() == "mine"

    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("not yours")
    with pytest.raises(ConflictError):
        checkout(store, two[0], output=other)
    assert files_of(other) == {"config.json": b"not yours"}


def test_a_symlink_in_the_way_is_not_written_through(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """With -f a planted symlink is replaced, and what it led to is untouched."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "config.json").symlink_to(victim)
    (out / "sub").symlink_to(tmp_path)

    with pytest.raises(ConflictError):
        checkout(store, two[1], output=out)
    checkout(store, two[1], output=out, force=True)

    assert victim.read_text() == "precious"
    assert not (tmp_path / "new.txt").exists()
    assert files_of(out) == files_of(tmp_path / "one")


def test_only_some_files(store: Store, two: tuple[Resolved, Resolved], tmp_path: Path) -> None:
    """A pattern picks files; one that fits none is an error that lists what there is."""
    out = checkout(store, two[0], output=tmp_path / "out", files=["*.json"]).path
    assert set(files_of(out)) == {"config.json", "tokenizer.json"}

    with pytest.raises(NotFoundError) as caught:
        checkout(store, two[0], output=tmp_path / "out", files=["*.gguf"])
    assert "model.safetensors" in caught.value.hint


def test_release_takes_away_what_the_store_holds(
    store: Store, two: tuple[Resolved, Resolved]
) -> None:
    """Released files are gone, the small ones stay, and a checkout brings them back."""
    home = checkout(store, two[0]).path
    before = files_of(home)

    done = release(store, two[0])

    assert set(files_of(home)) == {"manifest.json", "README.md", "model_info.json"}
    assert done.size > 0
    checkout(store, two[0])
    assert files_of(home) == before


def test_release_refuses_edited_files_and_damaged_blobs(
    store: Store, two: tuple[Resolved, Resolved]
) -> None:
    """Nothing is removed unless the store has every byte of it."""
    home = checkout(store, two[0]).path
    (home / "config.json").write_text("mine")
    with pytest.raises(ConflictError):
        release(store, two[0])

    checkout(store, two[0], force=True)
    blob = store.manifest(LINE, two[0].entry).files[0].spans[0].blob
    _damage(store.blobs.path(blob))
    with pytest.raises(IntegrityError):
        release(store, two[0])
    assert (home / "model.safetensors").exists()


def test_a_damaged_blob_is_never_served(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """A checkout that meets damage fails, names it, and leaves the directory as it was."""
    out = tmp_path / "out"
    checkout(store, two[0], output=out)
    before = files_of(out)
    file = store.manifest(LINE, two[1].entry).file("model.safetensors")
    assert file is not None
    _damage(store.blobs.path(file.spans[-1].blob))

    with pytest.raises(IntegrityError):
        checkout(store, two[1], output=out)

    assert files_of(out) == before


def test_committing_again_heals_a_damaged_blob(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """The same content committed again replaces the damaged frame."""
    file = store.manifest(LINE, two[1].entry).file("model.safetensors")
    assert file is not None
    _damage(store.blobs.path(file.spans[-1].blob))

    commit(store, tmp_path / "one", LINE, CommitOptions(allow_empty=True))

    checkout(store, two[1], output=tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "one")


def test_status_tells_what_was_changed(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """Status lists modified, missing and added files of every checkout."""
    out = checkout(store, two[0], output=tmp_path / "out").path
    assert status(store).clean

    (out / "config.json").write_text("mine")
    (out / "old.txt").unlink()
    (out / "notes.txt").write_text("mine")

    (copy,) = status(store).copies
    assert (copy.modified, copy.missing, copy.added) == (
        ("config.json",),
        ("old.txt",),
        ("notes.txt",),
    )


def test_equal_sizes_do_not_make_a_directory_right(
    store: Store, two: tuple[Resolved, Resolved]
) -> None:
    """Bytes that were exchanged in place are found, and the hint puts the right ones back."""
    home = checkout(store, two[0]).path
    before = files_of(home)
    weights = home / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[::-1])

    with pytest.raises(ConflictError, match=weights.name) as caught:
        checkout(store, two[0])

    assert "mstore checkout llama_1b@v1.0 -f" in caught.value.hint
    checkout(store, two[0], force=True)
    assert files_of(home) == before


def test_what_was_committed_from_a_version_directory_is_told_apart(
    store: Store, two: tuple[Resolved, Resolved]
) -> None:
    """Training in place and committing leaves another version there: said, with what to type."""
    home = checkout(store, two[0]).path
    write_model(home, step=0.5)
    commit(store, home, LINE, CommitOptions())

    for verb in (checkout, release):
        with pytest.raises(ConflictError, match=r"files of llama_1b@v1\.2") as caught:
            verb(store, two[0])
        assert "mstore checkout llama_1b@v1.0 -f" in caught.value.hint
        assert "commit" not in caught.value.hint


def test_releasing_a_directory_that_holds_another_version(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """The hint names the version that lies there."""
    out = checkout(store, two[1], output=tmp_path / "out").path

    with pytest.raises(ConflictError) as caught:
        release(store, two[0], output=out)

    assert f"mstore checkout llama_1b@v1.1 --release -o {out}" in caught.value.hint


def test_a_store_that_cannot_be_written_to_can_be_read_out(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """What was written where cannot be noted, and the files come out all the same."""
    shutil.rmtree(store.meta / "checkouts")
    (store.meta / "checkouts").write_bytes(b"no directory can be made here")

    checkout(store, two[1], output=tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "one")
    checkout(store, two[1], output=tmp_path / "part", files=["*.json"])
    release(store, two[1], output=tmp_path / "out")
    assert not files_of(tmp_path / "out")


def test_a_deleted_version_directory_comes_back_whole(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """Content, manifest and what was generated are what they were, and verify agrees."""
    home = checkout(store, two[1]).path
    before = files_of(home)
    shutil.rmtree(home)

    checkout(store, two[1])

    assert files_of(home) == before
    assert verify(store, two[1]).sound


def test_a_generated_file_comes_back_as_it_was_or_not_at_all(
    store: Store, two: tuple[Resolved, Resolved]
) -> None:
    """Where this mstore would generate something else, only the manifest is written."""
    home = checkout(store, two[1]).path
    values = {**two[1].entry.values, "description": "another"}
    shutil.rmtree(home)

    checkout(store, Resolved(LINE, Entry(two[1].entry.version, values)))

    assert "manifest.json" in files_of(home)
    assert not {"README.md", "model_info.json"} & set(files_of(home))


def test_with_force_an_edited_manifest_is_put_right(
    store: Store, two: tuple[Resolved, Resolved]
) -> None:
    """The published copy of the manifest is one of the files that -f overwrites."""
    home = checkout(store, two[0]).path
    (home / "manifest.json").write_text("{}")

    checkout(store, two[0], force=True)

    assert verify(store, two[0]).sound


def test_a_file_put_there_right_after_a_checkout_is_not_lost(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """A change that left size, time and inode as they were is a change while the record is young."""
    out = checkout(store, two[0], output=tmp_path / "out").path
    weights = out / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(weights.read_bytes()[::-1])
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(ConflictError):
        checkout(store, two[1], output=out)


def _damage(path: Path) -> None:
    """Flip one bit in the middle of the last half of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)

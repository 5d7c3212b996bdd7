"""Healing: bytes that the store has lost come back from files that are what was committed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modelstore.errors import ConflictError, NotFoundError
from modelstore.hashing import Digest
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, Committed, commit
from modelstore.ops.heal import heal
from modelstore.ops.resolve import Resolved, resolve
from modelstore.ops.verify import verify
from modelstore.store import MANIFEST, Store
from tests.models import files_of, write_model

LINE = ModelName("llama_1b")


def put(store: Store, path: Path, **options: object) -> Committed:
    """Commit with options given by name."""
    return commit(store, path, LINE, CommitOptions(**options))  # type: ignore[arg-type]


def weights_of(store: Store, resolved: Resolved) -> list[Digest]:
    """Return the blobs of the version's tensors."""
    manifest = store.manifest(resolved.model, resolved.entry)
    return sorted({span.blob for _, span, _ in manifest.tensors()})


def damage(path: Path) -> None:
    """Change the last byte of a frame."""
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Store:
    """A store with three versions, each built on the one before; their files are in 0/, 1/, 2/."""
    for number in range(3):
        put(store, write_model(tmp_path / str(number), step=number * 1e-4))
    assert any(store.blobs.header(b).depth for b in weights_of(store, resolve(store, "v1.2")))
    return store


@pytest.mark.parametrize("lose", [Path.unlink, damage])
def test_nothing_to_commit_brings_back_what_was_lost(line: Store, tmp_path: Path, lose) -> None:  # type: ignore[no-untyped-def]
    """A commit of files that the store knows but has lost stores them again, and says so."""
    lost = weights_of(line, resolve(line, "v1.0"))[:2]
    for digest in lost:
        lose(line.blobs.path(digest))

    made = put(line, tmp_path / "0", parents=["v1.0"])

    assert (made.created, made.version, made.brought_back) == (False, "v1.0", 2)
    (warning,) = made.warnings
    assert warning == "brought back 2 blobs of llama_1b@v1.0 that the store had lost"
    assert all(verify(line, resolve(line, f"v1.{n}")).sound for n in range(3))
    assert put(line, tmp_path / "0", parents=["v1.0"]).warnings == ()


def test_a_store_without_its_blobs_gets_them_from_its_directories(
    line: Store, tmp_path: Path
) -> None:
    """After .mstore was removed, committing the hydrated directories makes the store whole."""
    homes = [checkout(line, resolve(line, f"v1.{n}")).path for n in range(3)]
    shutil.rmtree(line.meta)
    again = Store(line.root)

    for home in homes:
        made = put(again, home)
        assert not made.created
        assert made.brought_back > 0

    for number in range(3):
        found = verify(again, resolve(again, f"v1.{number}"))
        assert found.sound, found.problems
        shutil.rmtree(homes[number])
        out = checkout(again, resolve(again, f"v1.{number}"), output=tmp_path / f"out{number}").path
        assert files_of(out) == files_of(tmp_path / str(number))


def test_a_base_that_was_lost_is_replaced_by_what_is_built_on_it(
    line: Store, tmp_path: Path
) -> None:
    """A version whose own frames are here needs its bases too, and is stored without them."""
    for digest in weights_of(line, resolve(line, "v1.0")):
        line.blobs.path(digest).unlink()

    assert heal(line, resolve(line, "v1.1"), tmp_path / "1") > 0

    assert verify(line, resolve(line, "v1.1")).sound
    assert verify(line, resolve(line, "v1.2")).sound
    assert not verify(line, resolve(line, "v1.0")).sound


def test_what_others_are_built_on_gets_no_base(line: Store, tmp_path: Path) -> None:
    """A blob comes back no deeper than the frames that are built on it allow."""
    version = resolve(line, "v1.1")
    lost = weights_of(line, version)
    for digest in lost:
        line.blobs.path(digest).unlink()

    heal(line, version, tmp_path / "1")

    assert [line.blobs.header(digest).depth for digest in lost] == [0] * len(lost)
    assert all(verify(line, resolve(line, f"v1.{n}")).sound for n in range(3))


def test_what_nobody_is_built_on_is_a_small_change_again(line: Store, tmp_path: Path) -> None:
    """The newest version comes back as it was stored: against its parent."""
    version = resolve(line, "v1.2")
    lost = [digest for digest in weights_of(line, version) if line.blobs.header(digest).base]
    for digest in lost:
        line.blobs.path(digest).unlink()

    heal(line, version, tmp_path / "2")

    assert all(line.blobs.header(digest).base for digest in lost)
    assert verify(line, version).sound


def test_a_sound_version_is_left_alone(line: Store, tmp_path: Path) -> None:
    """Where nothing is lost nothing is written, and the files are not even looked at."""
    before = files_of(line.root)

    assert heal(line, resolve(line, "v1.0"), tmp_path / "nowhere") == 0
    assert files_of(line.root) == before


@pytest.mark.parametrize(("change", "error"), [("edit", ConflictError), ("remove", NotFoundError)])
def test_wrong_files_are_refused(
    line: Store, tmp_path: Path, change: str, error: type[Exception]
) -> None:
    """A file that is not what was committed, or is not there, is named, and nothing is written."""
    line.blobs.path(weights_of(line, resolve(line, "v1.0"))[0]).unlink()
    file = tmp_path / "0" / "model.safetensors"
    if change == "edit":
        damage(file)
    else:
        file.unlink()
    before = files_of(line.root)

    with pytest.raises(error, match=r"'model\.safetensors' of llama_1b@v1\.0"):
        heal(line, resolve(line, "v1.0"), tmp_path / "0")
    assert files_of(line.root) == before


def test_only_files_that_are_needed_are_asked_for(line: Store, tmp_path: Path) -> None:
    """An edited README does not keep the weights from coming back."""
    line.blobs.path(weights_of(line, resolve(line, "v1.0"))[0]).unlink()
    (tmp_path / "0" / "config.json").write_text("{}")

    assert heal(line, resolve(line, "v1.0"), tmp_path / "0") == 1


@pytest.mark.parametrize("lose", [Path.unlink, damage])
def test_the_manifest_comes_back_from_the_version_directory(  # type: ignore[no-untyped-def]
    line: Store, tmp_path: Path, lose
) -> None:
    """A manifest that is lost or damaged among the blobs is put back from its published copy."""
    version = resolve(line, "v1.2")
    assert version.id is not None
    lose(line.blobs.path(version.id))

    assert put(line, tmp_path / "2").brought_back == 1

    assert line.blobs.is_sound(version.id)


def test_without_any_manifest_nothing_can_be_proved(line: Store, tmp_path: Path) -> None:
    """A manifest that is gone in both places is an error that names where to put it."""
    version = resolve(line, "v1.1")
    assert version.id is not None
    line.blobs.path(version.id).unlink()
    (line.version_dir(LINE, "v1.1") / MANIFEST).unlink()

    with pytest.raises(NotFoundError, match=r"manifest of llama_1b@v1\.1 is lost"):
        heal(line, version, tmp_path / "1")


def test_a_version_of_one_file_is_healed_from_it(store: Store, tmp_path: Path) -> None:
    """What was committed as a single file comes back from that file."""
    file = write_model(tmp_path / "one") / "model.safetensors"
    put(store, file)
    version = resolve(store, "v1.0")
    store.blobs.path(weights_of(store, version)[0]).unlink()

    assert put(store, file).brought_back == 1
    assert verify(store, version).sound

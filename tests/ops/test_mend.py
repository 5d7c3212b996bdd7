"""Repair puts right what can be put right, keeps what was damaged, and names what is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from modelstore import registry as registry_module
from modelstore.errors import LockTimeoutError, StoreError
from modelstore.hashing import Digest
from modelstore.locks import gc_lock, locked
from modelstore.names import ModelName
from modelstore.ops.adopt import adopt
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.fsck import Level, fsck
from modelstore.ops.mend import repair
from modelstore.ops.pointer import set_active
from modelstore.ops.resolve import resolve
from modelstore.ops.survey import plan_adopt
from modelstore.ops.verify import verify
from modelstore.registry import JOURNAL, VIEW
from modelstore.store import Store
from tests.crashes import crashes
from tests.models import files_of, write_model
from tests.ops.test_fsck import EMBEDDING, LINE, blob_of, write

SOUND = ("v1.0", "v1.1", "v1.2")
STRIDE = int(os.environ.get("CRASH_STRIDE", "9"))
"""Every so many steps of a repair it is killed; `make torture` kills it at each."""


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Store:
    """A store with three versions, each built on the one before; their files are in 0/, 1/, 2/."""
    for number in range(3):
        source = write_model(tmp_path / str(number), step=number * 1e-4)
        commit(store, source, LINE, CommitOptions(message=str(number)))
    return store


def damage(path: Path) -> None:
    """Flip the last bit of a file."""
    data = path.read_bytes()
    write(path, data[:-1] + bytes([data[-1] ^ 1]))


def in_quarantine(store: Store) -> list[bytes]:
    """Return what is kept in quarantine/."""
    return list(files_of(store.meta / "quarantine").values())


def check_whole(store: Store) -> None:
    """Assert that the store is sound, and that every version is what was committed."""
    assert fsck(store, Level.FULL).sound
    for version in SOUND:
        assert verify(store, resolve(store, version)).sound


# --- blobs


def test_without_anything_wrong_nothing_is_done(line: Store) -> None:
    """Not a byte is changed but the notes of locks."""
    before = files_of(line.root)
    assert repair(line, Level.FULL).findings == ()
    after = {k: v for k, v in files_of(line.root).items() if "/locks/" not in k}
    assert after == {k: v for k, v in before.items() if "/locks/" not in k}


@pytest.mark.parametrize("lose", [damage, Path.unlink])
@pytest.mark.parametrize("where", ["in place", "elsewhere", "a part"])
def test_a_frame_comes_back_from_a_checkout(
    line: Store, tmp_path: Path, lose: Callable[[Path], None], where: str
) -> None:
    """From the version's own directory, another one, or one that only some files were written to."""
    for version in SOUND:
        output = None if where == "in place" else tmp_path / version
        files = ["*.safetensors"] if where == "a part" else []
        checkout(line, resolve(line, version), output=output, files=files)
    digest = blob_of(line, "v1.0")
    path = line.blobs.path(digest)
    lose(path)
    damaged = [path.read_bytes()] if path.exists() else []

    found = repair(line, Level.FULL)

    assert found.sound
    assert [one.mended for one in found.findings if one.name == digest] == ["brought back"]
    assert in_quarantine(line) == damaged
    check_whole(line)
    assert line.blobs.header(digest).depth == 0


def test_a_file_that_was_changed_elsewhere_still_gives_what_is_whole_in_it(
    line: Store, tmp_path: Path
) -> None:
    """Only the bytes of the lost tensor count, not those around it."""
    checkout(line, resolve(line, "v1.0"), output=tmp_path / "out")
    weights = tmp_path / "out/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 255
    weights.write_bytes(data)
    damage(line.blobs.path(blob_of(line, "v1.0")))
    assert repair(line, Level.FULL).sound
    assert fsck(line, Level.FULL).sound


def test_wrong_bytes_cannot_get_in(line: Store, tmp_path: Path) -> None:
    """A checkout that holds something else of the same size brings nothing back."""
    checkout(line, resolve(line, "v1.0"), output=tmp_path / "out")
    weights = tmp_path / "out/model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    digest = blob_of(line, "v1.0")
    damage(line.blobs.path(digest))
    found = repair(line, Level.FULL)
    assert not found.sound
    assert digest not in line.blobs


def test_a_frame_comes_back_from_the_trash(line: Store) -> None:
    """As when gc took away what a restored registry needs."""
    digest = blob_of(line, "v1.0")
    with line.lock():
        trash = line.blobs.trash()
        trash.put(digest)
        trash.sync()
    assert repair(line).sound
    check_whole(line)


def test_what_is_built_on_a_lost_base_comes_back_by_itself(line: Store, tmp_path: Path) -> None:
    """The base is nowhere, but the version's own file is: it is stored without a base."""
    checkout(line, resolve(line, "v1.2"), output=tmp_path / "out")
    digest = blob_of(line, "v1.2")
    base = line.blobs.header(digest).base
    assert base is not None
    line.blobs.path(base).unlink()
    found = repair(line)
    assert {one.ref for problem in found.problems for one in problem.affected} <= {
        "m@v1.0",
        "m@v1.1",
    }
    assert verify(line, resolve(line, "v1.2")).sound


def test_what_is_nowhere_is_named_with_its_versions_and_tensors(line: Store) -> None:
    """The damaged frame is kept as evidence, and the next commit of the files brings it back."""
    digest = blob_of(line, "v1.2")
    damage(line.blobs.path(digest))
    damaged = line.blobs.path(digest).read_bytes()
    (problem,) = repair(line, Level.FULL).problems
    (lost,) = problem.affected
    assert (lost.ref, lost.file, lost.tensors) == ("m@v1.2", "model.safetensors", (EMBEDDING,))
    assert in_quarantine(line) == [damaged]
    assert repair(line, Level.FULL).problems == (problem,)
    commit(line, line.root.parent / "2", LINE, CommitOptions())
    check_whole(line)


def test_an_unneeded_damaged_frame_goes_to_quarantine(line: Store) -> None:
    """Nobody would notice it, until a commit relied on it."""
    with line.blobs.transaction() as transaction:
        digest = transaction.add_bytes(b"nobody needs this")
        transaction.publish()
    damage(line.blobs.path(digest))
    assert not fsck(line, Level.FULL).sound
    found = repair(line, Level.FULL)
    assert found.sound
    assert [one.mended for one in found.mended] == ["moved to quarantine/"]
    check_whole(line)


def test_a_lost_manifest_comes_back_from_the_directory(line: Store) -> None:
    """And a lost manifest.json in the directory from the store."""
    first, second = resolve(line, "v1.0"), resolve(line, "v1.1")
    assert first.id is not None
    damage(line.blobs.path(first.id))
    directory = line.version_dir(LINE, second.entry.version)
    (directory / "manifest.json").unlink()
    (directory / "model_info.json").write_text("edited")
    found = repair(line)
    assert found.sound
    assert len(found.mended) == 3
    assert b"edited" in in_quarantine(line)
    check_whole(line)


def test_repair_waits_for_gc_and_repack(line: Store) -> None:
    """It moves frames, so only one of them may be at work."""
    line.lock_timeout = 0.1
    with locked(gc_lock(line.meta)), pytest.raises(LockTimeoutError):
        repair(line)


# --- registries


@pytest.fixture
def changed(line: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The same store after more changes, with whole states every 4 changes."""
    monkeypatch.setattr(registry_module, "COMPACT_EVERY", 4)
    for number in (1, 2, 0, 1, 2):
        set_active(line, resolve(line, f"v1.{number}"))
    return line


def registry_files(store: Store) -> list[Path]:
    """Return all files of a registry."""
    home = store.root / LINE
    return [*sorted((store.meta / "refs" / LINE).iterdir()), home / VIEW, home / JOURNAL]


TEARS: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda data: None,
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "edited": lambda data: data.replace(b"prev", b"prew").replace(b"v1.1", b"v1.2", 1),
}


@pytest.mark.parametrize("tear", TEARS)
def test_any_one_file_of_a_registry_is_made_again_byte_for_byte(
    changed: Store, tmp_path: Path, tear: str
) -> None:
    """C09, C10: the state can be read all the while, and what was damaged is kept."""
    before = {path: path.read_bytes() for path in registry_files(changed)}
    expected = changed.state(LINE).document
    for number, path in enumerate(before):
        root = tmp_path / f"copy{number}"
        shutil.copytree(changed.root, root)
        store = Store(root)
        torn = root / path.relative_to(changed.root)
        data = TEARS[tear](torn.read_bytes())
        torn.unlink()
        if data is not None:
            torn.write_bytes(data)
        assert store.state(LINE).document == expected, path
        found = fsck(store)
        gone = tear == "missing"  # what the newest whole state makes up for is not missed
        oldest = gone and (path.name == "0000000005.json" or path.name.startswith("base-"))
        newest = gone and path.name == "0000000008.json"
        assert any(one.name.endswith(path.name) for one in found.findings) or oldest or newest, path
        assert repair(store).sound, path
        again = Store(root)
        assert again.state(LINE).document == expected
        assert again.state(LINE).notice == ""
        assert fsck(again).sound
        if path.name == JOURNAL:  # lines of records that refs/ has no more are lost with it
            lines = torn.read_bytes().splitlines()
            assert set(lines) <= set(before[path].splitlines())
            assert len(lines) >= 4
        elif not path.name.startswith("base-") and not oldest and not newest:
            assert torn.read_bytes() == before[path], path
        if data:
            kept = [*in_quarantine(store), *files_of(store.meta / "adopted").values()]
            assert data in kept, path


def test_a_record_that_is_lost_for_good_is_made_up_for_by_a_whole_state(changed: Store) -> None:
    """Record and journal are damaged; the view tells the state, which refs/ then has too."""
    expected = changed.state(LINE).document
    for path in registry_files(changed):
        if path.name in {"0000000008.json", JOURNAL} or path.name.startswith("base-"):
            path.write_bytes(b"\0" * 100)
    assert changed.state(LINE).document == expected
    assert repair(changed).sound
    again = Store(changed.root)
    assert fsck(again).sound
    (again.root / LINE / VIEW).unlink()
    assert again.state(LINE).document == expected
    set_active(again, resolve(again, "v1.0"))
    assert again.state(LINE).seq == expected["seq"] + 1
    assert fsck(again).sound


def test_a_registry_that_nothing_tells_is_named(changed: Store) -> None:
    """The other models are checked all the same, and nothing is deleted."""
    for path in registry_files(changed):
        path.write_bytes(b"")
    other = ModelName("n")
    commit(changed, changed.root.parent / "0", other, CommitOptions())
    damage(changed.blobs.path(_of(changed, other)))
    found = repair(changed, Level.FULL)
    assert not found.sound
    assert any(one.kind == "registry" and one.name == "m" for one in found.problems)
    assert len(list(changed.blobs.iter_digests())) > 10


def _of(store: Store, model: ModelName) -> Digest:
    manifest = store.manifest(model, store.state(model).entries()[0])
    return min(manifest.blobs())


def test_c10_a_registry_that_is_lost_altogether_is_made_again(line: Store) -> None:
    """From the directories of the versions: the same numbers and ids, and the same content."""
    before = {str(e.version): e.id for e in line.state(LINE).entries()}
    values = {str(e.version): e.mapping("metrics") for e in line.state(LINE).entries()}
    shutil.rmtree(line.meta / "refs" / LINE)
    for name in (VIEW, JOURNAL):
        (line.root / LINE / name).unlink()
    again = Store(line.root)
    (problem,) = fsck(again, Level.QUICK).problems[-1:]
    assert problem.what.endswith("its versions are there: v1.0, v1.1, v1.2")
    assert repair(again).sound
    assert {str(e.version): e.id for e in again.state(LINE).entries()} == before
    assert {str(e.version): e.mapping("metrics") for e in again.state(LINE).entries()} == values
    check_whole(again)


def test_settings_are_written_anew(line: Store) -> None:
    """What is right in them stays."""
    (line.meta / "config.json").write_bytes(b'{"default_model": "gone", "last_model": "m"}\n')
    (line.meta / "format.json").write_bytes(b'{"format":1}')
    assert repair(line).sound
    assert line.config() == {"last_model": "m"}
    assert fsck(line).findings == ()


# --- crashes


def broken(root: Path, template: Path) -> Store:
    """Return a copy of a store in which frames, a manifest, records and a view are damaged."""
    shutil.copytree(template, root)
    store = Store(root / "tuned_models")
    damage(store.blobs.path(blob_of(store, "v1.0")))
    store.blobs.path(blob_of(store, "v1.1")).unlink()
    identity = resolve(store, "v1.2").id
    assert identity is not None
    damage(store.blobs.path(identity))
    (store.meta / "refs" / LINE / "0000000002.json").write_bytes(b"")
    (store.root / LINE / VIEW).write_bytes(b"{}")
    (store.root / LINE / "v1.1/manifest.json").unlink()
    return store


def test_c15_a_crash_at_any_step_of_a_repair_can_be_repaired(store: Store, tmp_path: Path) -> None:
    """Whatever was done until then, the state can be read, and the next repair mends the store."""
    for number in range(3):
        commit(store, write_model(tmp_path / "run", step=number * 1e-4), LINE, CommitOptions())
    for version in SOUND:
        checkout(store, resolve(store, version))
    (tmp_path / "template").mkdir()
    store.root.rename(tmp_path / "template/tuned_models")
    expected = Store(tmp_path / "template/tuned_models").state(LINE).document
    for step in range(1, 400, STRIDE):
        root = tmp_path / f"step{step}"
        mended = broken(root, tmp_path / "template")
        crashed = crashes(lambda mended=mended: repair(mended, Level.FULL), step)
        assert mended.state(LINE).document == expected
        assert repair(mended, Level.FULL).sound, f"step {step}"
        check_whole(Store(mended.root))
        shutil.rmtree(root)
        if not crashed:
            print(f"killed before every {STRIDE}th of at most {step} changes of the disk")
            return
    pytest.fail("a repair takes too many steps")


# --- changes that came through Git


def test_a_pulled_registry_is_taken_over_and_its_content_listed_as_missing(
    store: Store, tmp_path: Path
) -> None:
    """A colleague's change continues ours: adopt takes it over; what is not here is a problem."""
    commit(store, write_model(tmp_path / "one"), LINE, CommitOptions())
    shutil.copytree(store.root, tmp_path / "theirs/tuned_models")
    theirs = Store(tmp_path / "theirs/tuned_models")
    commit(theirs, write_model(tmp_path / "two", step=1e-4), LINE, CommitOptions())
    for path in (theirs.root / LINE).rglob("*.json*"):
        copy = store.root / path.relative_to(theirs.root)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)

    state = store.state(LINE)
    assert [str(version) for version in state.versions()] == ["v1.0", "v1.1"]
    assert "mstore adopt" in state.notice
    plan = plan_adopt(store.root)
    assert any("git pull" in remark for remark in plan.models[0].remarks)
    adopt(store.root, plan)
    assert store.state(LINE).notice == ""
    assert store.registry(LINE).ahead() == 0
    assert {one.what for one in fsck(store).problems if one.kind == "blob"} == {
        "is not in the store"
    }
    assert verify(store, resolve(store, "v1.0")).sound
    with pytest.raises(StoreError):
        checkout(store, resolve(store, "v1.1"))

"""Symlinks, hard links and special files where files are expected."""

from __future__ import annotations

import mmap
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from modelstore.errors import ConflictError, IntegrityError, NotFoundError, StoreError, UsageError
from modelstore.ops.checkout import checkout, release
from modelstore.ops.commit import CommitOptions, Committed, commit
from modelstore.ops.resolve import resolve
from modelstore.ops.tree import walk
from modelstore.ops.verify import verify
from modelstore.registry import VIEW
from modelstore.store import Store
from tests.cli.program import run
from tests.hostile.forged import MODEL
from tests.models import files_of, write_model

Look = Callable[[], dict[str, bytes]]


@pytest.fixture
def made(store: Store, tmp_path: Path) -> Committed:
    """A version with a file in a subdirectory, committed from ``in``."""
    model = write_model(tmp_path / "in", files={"sub/extra.txt": "stored"})
    return commit(store, model, MODEL, CommitOptions())


# --- what is committed


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize("where", ["{}", "{}/sub/x"])
def test_special_files_are_refused_and_not_opened(tmp_path: Path, kind: str, where: str) -> None:
    """A pipe would wait for ever and a device never end; both are named instead."""
    root = tmp_path / "in"
    path = Path(where.format(root))
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        if os.geteuid() != 0:
            pytest.skip("only root makes devices")
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    with pytest.raises(UsageError, match="neither a file nor a directory"):
        walk(root)


@pytest.mark.parametrize("kind", ["pipe", "directory", "not text", "huge"])
def test_rules_that_are_no_text(tmp_path: Path, kind: str) -> None:
    """An `.mstoreignore` of any kind is understood, or refused at once."""
    model = write_model(tmp_path / "in")
    path = model / ".mstoreignore"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"\xff" if kind == "not text" else b"a\n" * (1 << 20))
    with pytest.raises(StoreError, match="mstoreignore"):
        walk(model)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"\xff", b"9" * 5000, b"[]", b"{"])
def test_a_model_info_that_says_nothing(store: Store, tmp_path: Path, data: bytes) -> None:
    """Whatever is called `model_info.json` is content, and no obstacle."""
    model = write_model(tmp_path / "in", files={"model_info.json": data})
    made = commit(store, model, MODEL, CommitOptions())
    checkout(store, resolve(store, f"m@{made.version}"), output=tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(model)


@pytest.mark.parametrize("follow", [False, True])
def test_directories_that_lead_back(tmp_path: Path, follow: bool) -> None:
    """A loop of symlinks ends in an error, however long it is."""
    model = write_model(tmp_path / "in", files={"a/b/c.txt": "x"})
    (model / "a/b/up").symlink_to("../..")
    (model / "a/self").symlink_to("self")
    with pytest.raises(StoreError, match="symlink"):
        walk(model, follow_symlinks=follow)


def test_symlinks_to_secrets(tmp_path: Path) -> None:
    """A link to a file outside is not read unless that is asked for, and the error says how."""
    model = write_model(tmp_path / "in")
    (tmp_path / "secret").write_bytes(b"key")
    (model / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(UsageError) as refused:
        walk(model)
    assert "--follow-symlinks" in refused.value.hint
    assert [f.path for f in walk(model, follow_symlinks=True).files if f.path == "notes.txt"]


# --- where it is written


@pytest.mark.parametrize("force", [False, True])
def test_a_linked_directory_is_not_written_through(
    store: Store, made: Committed, tmp_path: Path, force: bool
) -> None:
    """A symlink in place of a directory is refused, or replaced with -f; what it led to stays."""
    outside = write_model(tmp_path / "outside", files={"extra.txt": "theirs"})
    before = files_of(outside)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(outside)
    version = resolve(store, f"m@{made.version}")
    if force:
        checkout(store, version, output=tmp_path / "out", force=True)
        assert (tmp_path / "out" / "sub" / "extra.txt").read_text() == "stored"
    else:
        with pytest.raises(ConflictError):
            checkout(store, version, output=tmp_path / "out")
    assert files_of(outside) == before


def test_a_directory_that_was_moved_away_and_linked(
    store: Store, made: Committed, tmp_path: Path
) -> None:
    """Nothing is removed through a link: not by a release, nor by a checkout of another version."""
    out, outside = tmp_path / "out", tmp_path / "outside"
    checkout(store, resolve(store, f"m@{made.version}"), output=out)
    shutil.move(out / "sub", outside)
    (out / "sub").symlink_to(outside)
    with pytest.raises(ConflictError):
        release(store, resolve(store, f"m@{made.version}"), output=out)
    smaller = commit(store, write_model(tmp_path / "other", seed=2), MODEL, CommitOptions())
    checkout(store, resolve(store, f"m@{smaller.version}"), output=out, force=True)
    assert files_of(outside) == {"extra.txt": b"stored"}


@pytest.mark.parametrize("level", ["version", "model"])
def test_a_link_in_place_of_the_version(
    store: Store, made: Committed, tmp_path: Path, level: str
) -> None:
    """The version's own directory is not written to where it is none of the store's."""
    own = store.version_dir(MODEL, made.version)
    path = own if level == "version" else own.parent
    shutil.move(path, tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    before = files_of(tmp_path / "outside")
    with pytest.raises(ConflictError, match="symlink"):
        checkout(store, resolve(store, f"m@{made.version}"), force=True)
    assert files_of(tmp_path / "outside") == before


def test_a_linked_registry_is_not_written_through(
    store: Store, made: Committed, tmp_path: Path
) -> None:
    """A change puts a file in the link's place and leaves alone what it led to."""
    view = store.root / MODEL / VIEW
    victim = tmp_path / "victim"
    victim.write_bytes(b"of the user")
    view.unlink()
    view.symlink_to(victim)
    other = commit(store, write_model(tmp_path / "other", seed=2), MODEL, CommitOptions())
    assert other.version == "v1.1"
    assert victim.read_bytes() == b"of the user"
    assert not view.is_symlink()


def test_a_linked_store_is_one_store(store: Store, made: Committed, tmp_path: Path) -> None:
    """`.mstore` may lie on another disk."""
    shutil.move(store.meta, tmp_path / "disk2")
    store.meta.symlink_to(tmp_path / "disk2")
    again = Store(store.root)
    assert not verify(again, resolve(again, f"m@{made.version}")).problems
    (tmp_path / "disk2").rename(tmp_path / "disk3")  # now it leads to nothing
    with pytest.raises(StoreError):
        commit(Store(store.root), tmp_path / "in", MODEL, CommitOptions(allow_empty=True))


@pytest.mark.parametrize("kind", ["pipe", "directory", "symlink to nothing"])
def test_a_blob_that_is_no_file(store: Store, made: Committed, tmp_path: Path, kind: str) -> None:
    """It counts as damaged or missing, and is not waited for."""
    manifest = store.manifest(MODEL, resolve(store, "m@latest").entry)
    path = store.blobs.path(sorted(manifest.blobs())[0])
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("nothing")
    with pytest.raises((IntegrityError, NotFoundError)):
        checkout(store, resolve(store, "m@latest"), output=tmp_path / "out")
    assert verify(store, resolve(store, "m@latest")).problems


# --- working files are copies (I07, I09)


def overwrite(path: Path) -> None:
    """Write over the bytes in place."""
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)


def write_mapped(path: Path) -> None:
    """Write through a shared mapping."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:] = b"\xff" * len(mapped)


def truncate(path: Path) -> None:
    """Cut it to nothing."""
    os.truncate(path, 0)


def save_over_itself(path: Path) -> None:
    """Save tensors over the file that they are mapped from, as people do (safetensors #762)."""
    if path.suffix == ".safetensors":
        save_file({name: -value for name, value in load_file(path).items()}, path)


@pytest.mark.parametrize("spoil", [overwrite, write_mapped, truncate, save_over_itself])
@pytest.mark.parametrize("where", ["out", "own", "linked"])
def test_what_is_done_to_working_files_stays_there(
    store: Store, made: Committed, tmp_path: Path, spoil: Callable[[Path], None], where: str
) -> None:
    """A store shares no file with a checkout, nor with what was committed, hard links included."""
    before = files_of(tmp_path / "in")
    version = resolve(store, f"m@{made.version}")
    directory = checkout(store, version, output=None if where == "own" else tmp_path / "out").path
    for name in before:
        if where == "linked":  # the user's second name for a working file
            (tmp_path / name.replace("/", "_")).hardlink_to(directory / name)
            spoil(tmp_path / name.replace("/", "_"))
        else:
            spoil(directory / name)
        spoil(tmp_path / "in" / name)
    assert {problem.directory for problem in verify(store, version).problems} <= {directory}
    assert files_of(checkout(store, version, output=tmp_path / "again").path) == before


def test_a_hard_linked_working_file_is_replaced_and_not_written_to(
    store: Store, made: Committed, tmp_path: Path
) -> None:
    """With -f the name gets a new file; its other name keeps the old bytes."""
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "mine").write_bytes(b"mine")
    (out / "config.json").hardlink_to(tmp_path / "mine")
    checkout(store, resolve(store, "m@latest"), output=out, force=True)
    assert (tmp_path / "mine").read_bytes() == b"mine"


SMALL_FILES = [
    *(
        ".mstore/format.json",
        ".mstore/config.json",
        "m/model_registry.json",
        "m/v1.0/manifest.json",
    ),
    *("m/v1.0/model_info.json", "other/model_registry.json", ".mstore/refs/m/0000000001.json"),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", SMALL_FILES)
@pytest.mark.parametrize("kind", ["pipe", "directory", "loop"])
def test_small_files_that_are_none_are_not_waited_for(
    store: Store, made: Committed, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe, a directory or a loop where a small file belongs is read round, or an error."""
    path = store.root / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(path.name)
    monkeypatch.chdir(store.root)
    for words in (("log",), ("list",), ("status",), ("verify", "m@v1.0"), ("show", "m@v1.0")):
        ran = run(*words)
        assert ran.code != 70, (words, ran.err)

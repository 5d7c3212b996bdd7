from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from modelstore import disk
from modelstore.errors import ConflictError, DiskFullError, StoreError
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import resolve
from modelstore.ops.verify import verify
from modelstore.store import create
from modelstore.syscalls import Syscalls
from tests.crashes import crashes
from tests.faults import Call, Failing, Recording, exchanged
from tests.models import files_of, write_model


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Let no file of this process grow over ``size`` bytes, as a quota would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(directory: Path) -> list[str]:
    """Return what lies in ``directory``."""
    return sorted(path.name for path in directory.iterdir())


def test_create_writes_a_new_file_and_never_overwrites(tmp_path: Path) -> None:
    """The second of two creators is told, and the first one's bytes stay."""
    path = tmp_path / "f"
    disk.create(path, b"one")
    with pytest.raises(FileExistsError):
        disk.create(path, b"two")
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["f"]


def test_create_has_one_winner_among_threads(tmp_path: Path) -> None:
    """Exclusive creation is the file system's, and needs no lock."""
    won: list[int] = []
    start = threading.Barrier(8)

    def run(number: int) -> None:
        start.wait()
        try:
            disk.create(tmp_path / "f", b"%d" % number)
            won.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert (tmp_path / "f").read_bytes() == b"%d" % won[0]
    assert names(tmp_path) == ["f"]


def test_create_refuses_a_dangling_link(tmp_path: Path) -> None:
    """Something is there, and nothing is written through it."""
    (tmp_path / "f").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        disk.create(tmp_path / "f", b"x")
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("write", [disk.create, disk.replace])
def test_a_full_disk_leaves_neither_a_torn_file_nor_a_temporary_one(
    tmp_path: Path, write: object
) -> None:
    """The error is DiskFullError, names the path and exits with 8."""
    assert callable(write)
    with limited(1000), pytest.raises(DiskFullError, match=r"no space left to write .*f") as caught:
        write(tmp_path / "f", bytes(5000))
    assert caught.value.exit_code == 8
    assert caught.value.hint
    assert names(tmp_path) == []


def test_replace_on_a_full_disk_keeps_the_old_bytes(tmp_path: Path) -> None:
    """Old or new, never something between."""
    disk.replace(tmp_path / "f", b"old")
    with limited(1000), pytest.raises(DiskFullError):
        disk.replace(tmp_path / "f", bytes(5000))
    assert (tmp_path / "f").read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_append_to_a_full_device_is_a_full_disk() -> None:
    """/dev/full answers ENOSPC as a real file system does."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(DiskFullError, match="/dev/full"):
        disk.append(Path("/dev/full"), b"x")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_said_in_one_way(number: int) -> None:
    """No space, over quota and over the file size limit are the same to a caller."""
    assert isinstance(disk.explain(OSError(number, "x"), Path("/a/b"), "write"), DiskFullError)


def test_other_errors_name_the_path_and_the_verb(tmp_path: Path) -> None:
    """Even those without a number."""
    error = disk.explain(OSError(errno.EACCES, "x"), tmp_path / "f", "write")
    assert str(error) == f"cannot write '{tmp_path / 'f'}': Permission denied"
    assert str(tmp_path) in error.hint
    assert "'/f': odd" in str(disk.explain(OSError("odd"), Path("/f"), "read"))
    with pytest.raises(StoreError, match=f"cannot create '{tmp_path}/none/"):
        disk.create(tmp_path / "none" / "f", b"")


def test_a_read_only_directory_is_named(tmp_path: Path) -> None:
    """The hint shows how to look at its permissions."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=str(tmp_path)) as caught:
        disk.replace(tmp_path / "f", b"")
    tmp_path.chmod(0o700)
    assert "ls -ld" in caught.value.hint


def test_a_reader_sees_the_old_bytes_or_the_new_ones(tmp_path: Path) -> None:
    """While a file is replaced again and again, every read is whole."""
    path = tmp_path / "f"
    disk.replace(path, b"a" * 10_000)
    stop = threading.Event()
    torn: list[bytes] = []

    def read() -> None:
        while not stop.is_set():
            data = path.read_bytes()
            if len(data) != 10_000 or len(set(data)) != 1:
                torn.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(60):
        disk.replace(path, bytes([97 + n % 20]) * 10_000)
    stop.set()
    reader.join()
    assert not torn


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_crash_while_replacing_leaves_old_or_new(tmp_path: Path, old: bytes | None) -> None:
    """At every step; what is left beside it has a name that nobody reads."""
    for step in range(1, 20):
        path = tmp_path / str(step) / "f"
        path.parent.mkdir()
        if old is not None:
            path.write_bytes(old)
        crashed = crashes(lambda path=path: disk.replace(path, b"new"), step)
        assert (path.read_bytes() if path.exists() else None) in {old, b"new"}
        assert all(name == "f" or name.endswith(".tmp") for name in names(path.parent))
        if not crashed:
            assert path.read_bytes() == b"new"
            return
    pytest.fail("replacing a file takes too many steps")


def test_append_adds_to_the_end(tmp_path: Path) -> None:
    """The file is created if need be, and a link is not followed."""
    disk.append(tmp_path / "f", b"one\n")
    disk.append(tmp_path / "f", b"two\n")
    assert (tmp_path / "f").read_bytes() == b"one\ntwo\n"
    disk.truncate(tmp_path / "f", 4)
    assert (tmp_path / "f").read_bytes() == b"one\n"
    (tmp_path / "l").symlink_to(tmp_path / "f")
    with pytest.raises(StoreError):
        disk.append(tmp_path / "l", b"x")


def test_make_dir_makes_parents_and_leaves_existing_ones(tmp_path: Path) -> None:
    """Twice is as good as once."""
    disk.make_dir(tmp_path / "a/b/c")
    disk.make_dir(tmp_path / "a/b/c")
    assert (tmp_path / "a/b/c").is_dir()
    with pytest.raises(StoreError, match="cannot create"):
        disk.make_new_dir(tmp_path / "a")


@pytest.mark.parametrize("below", ["f", "f/g"])
def test_make_dir_does_not_take_a_file_for_a_directory(tmp_path: Path, below: str) -> None:
    """A file of that name, or in the way, is an error that names it."""
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(StoreError, match=f"cannot create '{tmp_path}/f"):
        disk.make_dir(tmp_path / below)
    (tmp_path / "l").symlink_to(tmp_path / "none")
    with pytest.raises(StoreError, match="cannot create"):
        disk.make_dir(tmp_path / "l")


def test_link_tells_whether_the_name_was_free(tmp_path: Path) -> None:
    """It never overwrites."""
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    assert disk.link(tmp_path / "a", tmp_path / "c")
    assert not disk.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"b"
    assert (tmp_path / "c").read_bytes() == b"a"


def test_where_links_are_not_to_be_had_files_are_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT and some network file systems; still nothing is overwritten or left over."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)
    disk.create(tmp_path / "f", b"one")
    with pytest.raises(FileExistsError):
        disk.create(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"one"
    assert names(tmp_path) == ["f"]


def test_a_symlink_says_what_it_was_told(tmp_path: Path) -> None:
    """It may lead nowhere; a name that is taken is an error, and no links at all is an answer."""
    assert disk.symlink("../x", tmp_path / "link")
    assert os.readlink(tmp_path / "link") == "../x"
    with pytest.raises(StoreError, match="cannot create"):
        disk.symlink("y", tmp_path / "link")
    with exchanged(NoLinks()):
        assert not disk.symlink("y", tmp_path / "other")
    assert not os.path.lexists(tmp_path / "other")


def test_a_failed_link_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other error removes the temporary file."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(StoreError, match="Input/output error"):
        disk.create(tmp_path / "f", b"one")
    assert names(tmp_path) == []


def test_new_file_writes_at_any_place_and_is_removed_on_an_error(tmp_path: Path) -> None:
    """The name never holds a file whose writer gave up."""
    with disk.NewFile(tmp_path / "f") as file:
        file.write(b"abc")
        file.write_at(b"XY", 1)
        file.write_at(memoryview(b"end"), 5)
        assert file.size == 8
        file.set_mode(0o400)
        file.close(sync=True)
    assert (tmp_path / "f").read_bytes() == b"aXY\0\0end"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o400
    with suppress(RuntimeError), disk.NewFile(tmp_path / "g") as file:
        file.write(b"abc")
        raise RuntimeError
    with pytest.raises(StoreError, match="File exists"):
        disk.NewFile(tmp_path / "f")
    assert names(tmp_path) == ["f"]


def test_move_new_never_overwrites(tmp_path: Path) -> None:
    """Directories and files alike."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(ConflictError, match="exists already"):
        disk.move_new(tmp_path / "a", tmp_path / "b")
    disk.move_new(tmp_path / "a", tmp_path / "c")
    assert names(tmp_path) == ["b", "c"]


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    """Files and trees; but a directory is no file."""
    disk.remove(tmp_path / "f")
    disk.remove_tree(tmp_path / "d")
    (tmp_path / "d/e").mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot remove"):
        disk.remove(tmp_path / "d")
    (tmp_path / "d/f").write_bytes(b"")
    disk.remove_empty_dirs([tmp_path / "d", tmp_path / "d/e"])
    assert names(tmp_path / "d") == ["f"]
    disk.remove_tree(tmp_path / "d")
    assert names(tmp_path) == []


def test_copy_new_copies_and_never_overwrites(tmp_path: Path) -> None:
    """Changing the copy leaves the source alone."""
    (tmp_path / "a").write_bytes(b"abc" * 1000)
    disk.copy_new(tmp_path / "a", tmp_path / "b")
    disk.append(tmp_path / "b", b"x")
    assert (tmp_path / "a").read_bytes() == b"abc" * 1000
    with pytest.raises(StoreError, match="File exists"):
        disk.copy_new(tmp_path / "a", tmp_path / "b")
    with pytest.raises(StoreError, match="cannot read"):
        disk.copy_new(tmp_path, tmp_path / "c")
    assert names(tmp_path) == ["a", "b"]


def test_free_space_is_a_number_of_bytes(tmp_path: Path) -> None:
    """And a path that is not there is an error that names it."""
    assert disk.free_space(tmp_path) > 0
    with pytest.raises(StoreError, match="none"):
        disk.free_space(tmp_path / "none")


# --- file systems and systems that are not like this one


class Busy(Syscalls):
    """A file that a scanner has open, as Windows says it, for some calls."""

    def __init__(self, times: int) -> None:
        self.left = times

    def _try(self) -> None:
        if self.left:
            self.left -= 1
            error = PermissionError(errno.EACCES, "in use")
            error.winerror = 32  # type: ignore[attr-defined]
            raise error

    def rename(self, source: Path, target: Path) -> None:
        """Be busy, or rename."""
        self._try()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        """Be busy, or remove."""
        self._try()
        super().unlink(path)


def test_a_busy_file_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows a scanner may have a new file open for a moment; not for ever."""
    disk.create(tmp_path / "f", b"old")
    with exchanged(Busy(5)):
        disk.replace(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
    with exchanged(Busy(5)):
        disk.remove(tmp_path / "f")
    monkeypatch.setattr(disk, "_PATIENCE", 0.05)
    disk.create(tmp_path / "f", b"old")
    with exchanged(Busy(10_000)), pytest.raises(StoreError, match="cannot write"):
        disk.replace(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"


class NoModes(Syscalls):
    """A file system without permission bits, as FAT and many shares are."""

    def chmod(self, path: Path, mode: int) -> None:
        """Refuse."""
        raise PermissionError(errno.EPERM, "no modes")


class NoLinks(Syscalls):
    """A file system without links of either kind."""

    def symlink(self, target: str, path: Path) -> None:
        """Refuse."""
        raise OSError(errno.EPERM, "no links")

    def link(self, source: Path, target: Path) -> None:
        """Refuse."""
        raise OSError(errno.EPERM, "no links")


@pytest.mark.parametrize("kind", [NoModes, NoLinks])
def test_a_store_lives_where_there_are_no_modes_or_links(tmp_path: Path, kind: type) -> None:
    """Commit, checkout and a second commit work there, too."""
    with exchanged(kind()):
        store = create(tmp_path / "store")
        for seed in (1, 2):
            commit(store, write_model(tmp_path / "run", seed=seed), ModelName("m"), CommitOptions())
        checkout(store, resolve(store, "v1.1"), output=tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "run")
    assert verify(store, resolve(store, "v1.0")).sound


def test_frames_are_never_moved_between_file_systems(tmp_path: Path) -> None:
    """What is staged lies within the store, so a rename never meets another device."""
    store = create(tmp_path / "store")
    calls: list[Call] = []
    with exchanged(Recording(calls)):
        commit(store, write_model(tmp_path / "run"), ModelName("m"), CommitOptions())
    moved = [path for call in calls if call.name in {"link", "rename"} for path in call.arguments]
    assert moved
    assert all(path.is_relative_to(store.root) for path in moved)


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.EROFS, "Read-only file system"), (errno.EDQUOT, "quota"), (errno.EFBIG, "too large")],
)
def test_what_the_system_refuses_is_said_with_the_path(
    tmp_path: Path, number: int, told: str
) -> None:
    """A read-only mount, a quota and a limit name what was to be written, and change nothing."""
    store = create(tmp_path / "store")
    source = write_model(tmp_path / "run")
    before = files_of(store.root)
    with (
        exchanged(Failing(1, number, lambda name, _: name in {"mkdir", "pwrite"}, lasting=True)),
        pytest.raises(StoreError, match=told) as caught,
    ):
        commit(store, source, ModelName("m"), CommitOptions())
    assert str(store.root) in str(caught.value)
    passing = (".mstore/locks/", ".mstore/tmp/")
    after = {k: v for k, v in files_of(store.root).items() if not k.startswith(passing)}
    assert after == {k: v for k, v in before.items() if not k.startswith(passing)}


def test_a_file_whose_closing_fails_is_not_left(tmp_path: Path) -> None:
    """File systems over a network tell only when a file is closed that they had no room."""
    (tmp_path / "a").write_bytes(b"abc")
    faults = Failing(1, errno.ENOSPC, lambda name, _: name == "close")
    with exchanged(faults), pytest.raises(DiskFullError):
        disk.copy_new(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == ["a"]


def test_a_tree_is_removed_without_following_links(tmp_path: Path) -> None:
    """What a link leads to stays, and a link is not a tree."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/f").write_bytes(b"")
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/l").symlink_to(tmp_path / "kept")
    disk.remove_tree(tmp_path / "d")
    (tmp_path / "l").symlink_to(tmp_path / "kept")
    with pytest.raises(StoreError, match="cannot remove"):
        disk.remove_tree(tmp_path / "l")
    assert names(tmp_path) == ["kept", "l"]
    assert names(tmp_path / "kept") == ["f"]

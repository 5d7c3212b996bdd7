from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelstore import disk
from modelstore.errors import ConflictError, RemoteError
from modelstore.remotes.content import MadeContent
from modelstore.remotes.directory import DirectoryRemote, create_directory
from tests.contracts.remote import WriteContract, noise

COUNT = """
import sys
from pathlib import Path
from modelstore.errors import ConflictError
from modelstore.remotes.directory import DirectoryRemote

remote = DirectoryRemote(Path(sys.argv[1]))
done = 0
while done < 20:
    data, tag = remote.get_tagged("counter")
    try:
        remote.swap("counter", b"%d" % (int(data) + 1), tag)
        done += 1
    except ConflictError:
        pass
"""

STALL = """
import sys
import time
from pathlib import Path
from modelstore.remotes.content import MadeContent
from modelstore.remotes.directory import DirectoryRemote

def pieces():
    yield b"x" * 1000
    print("begun", flush=True)
    time.sleep(600)

DirectoryRemote(Path(sys.argv[1])).put("a/b", MadeContent(2000, pieces))
"""


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[DirectoryRemote]:
    """Return an empty directory as a remote."""
    remote = create_directory(tmp_path / "remote")
    yield remote
    remote.close()


def visible(root: Path) -> list[str]:
    """Return the files below ``root`` that are not a writer's own."""
    paths = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    return sorted(str(path) for path in paths if path.parts[0] != ".mstore-tmp")


class TestDirectoryRemote(WriteContract):
    """A directory is a remote."""


def test_is_plain_files(remote: DirectoryRemote, tmp_path: Path) -> None:
    """A value is a file whose path is its key, so anybody can copy or serve the directory."""
    remote.put("a/b", b"value")
    remote.swap("refs/c", b"1", None)
    root = tmp_path / "remote"
    assert visible(root) == ["a/b", "refs/c"]
    assert (root / "a/b").read_bytes() == b"value"


def test_lists_no_files_of_others(remote: DirectoryRemote, tmp_path: Path) -> None:
    """Hidden files, links and what no key can name are not values, and are left alone."""
    root = tmp_path / "remote"
    remote.put("a/b", b"value")
    (root / ".DS_Store").write_bytes(b"")
    (root / "lost+found").mkdir()
    (root / "lost+found" / "x").write_bytes(b"")
    (root / "link").symlink_to(root / "a")
    (root / "a" / "to-b").symlink_to(root / "a" / "b")
    assert [found.key for found in remote.list()] == ["a/b"]


def test_refuses_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """A disk that is not mounted is an error, before and while it is used, and never empty."""
    with pytest.raises(RemoteError, match="there is no directory"):
        DirectoryRemote(tmp_path / "mnt")
    remote = create_directory(tmp_path / "mnt")
    remote.put("a", b"1")
    remote.close()
    (tmp_path / "mnt").rename(tmp_path / "elsewhere")
    for call in (
        lambda: list(remote.list()),
        lambda: remote.get("a"),
        lambda: remote.head("a"),
        lambda: remote.put("a", b"2"),
        lambda: remote.swap("a", b"2", None),
    ):
        with pytest.raises(RemoteError, match="is gone"):
            call()
    assert not (tmp_path / "mnt").exists()


def test_leaves_nothing_when_it_closes(remote: DirectoryRemote, tmp_path: Path) -> None:
    """After all is put and the remote is closed, only the lock of swaps stays with the values."""
    remote.put("a", b"1")
    remote.swap("b", b"2", None)
    remote.close()
    left = {path.name for path in (tmp_path / "remote" / ".mstore-tmp").iterdir()}
    assert left <= {"swap.lock", "swap.owner"}


def test_removes_what_a_killed_writer_left(remote: DirectoryRemote, tmp_path: Path) -> None:
    """A writer's files are known as abandoned as soon as it is dead, and not before."""
    root = tmp_path / "remote"
    process = subprocess.Popen(
        [sys.executable, "-c", STALL, str(root)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        (theirs,) = (path for path in (root / ".mstore-tmp").iterdir() if path.is_dir())
        remote.put("c", b"1")
        assert [path.name for path in theirs.iterdir()] == ["0"]
    finally:
        process.kill()
        process.communicate()
    assert visible(root) == ["c"]
    other = DirectoryRemote(root)
    other.put("d", b"1")
    assert not theirs.exists()
    assert not theirs.with_suffix(".lock").exists()
    other.close()


def test_loses_no_swap_of_processes(remote: DirectoryRemote, tmp_path: Path) -> None:
    """Processes that count in one value lose nothing."""
    remote.swap("counter", b"0", None)
    command = [sys.executable, "-c", COUNT, str(tmp_path / "remote")]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert remote.get("counter") == b"80"


def test_reads_one_value_though_another_takes_its_place(remote: DirectoryRemote) -> None:
    """A stream goes on with the value that it began with."""
    remote.put("a", noise(9 << 20, 1))
    pieces = remote.stream("a")
    first = next(pieces)
    remote.put("a", noise(9 << 20, 2))
    assert first + b"".join(pieces) == noise(9 << 20, 1)


def test_refuses_deletion_where_the_directory_does(
    remote: DirectoryRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may only be added to takes values, and says so when one is to be removed."""
    remote.put("a", b"1")
    remote.put("b", b"1")

    class AppendOnly(type(disk.calls)):  # type: ignore[misc]
        def unlink(self, path: Path) -> None:
            if ".mstore-tmp" not in path.parts:
                raise PermissionError(13, "Permission denied")
            super().unlink(path)

    monkeypatch.setattr(disk, "calls", AppendOnly())
    with pytest.raises(RemoteError, match="cannot remove"):
        remote.delete(["a", "b"])
    remote.put("c", b"1")
    assert [found.key for found in remote.list()] == ["a", "b", "c"]


def test_a_key_below_a_value_is_refused(remote: DirectoryRemote) -> None:
    """A directory cannot hold a value and values below it, and says so."""
    remote.put("a", b"1")
    with pytest.raises(RemoteError):
        remote.put("a/b", b"2")
    assert remote.head("a/b") is None


def test_two_writers_share_a_directory(remote: DirectoryRemote, tmp_path: Path) -> None:
    """Two remotes on one directory do not remove each other's files while they are written."""
    second = DirectoryRemote(tmp_path / "remote")
    entered, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"half"
        entered.set()
        assert go_on.wait(30)
        yield b"half"

    thread = threading.Thread(target=remote.put, args=("slow", MadeContent(8, slowly)))
    thread.start()
    assert entered.wait(30)
    second.put("quick", b"1")
    second.close()
    go_on.set()
    thread.join()
    assert remote.get("slow") == b"halfhalf"
    with pytest.raises(ConflictError):
        second.swap("quick", b"2", None)
    second.close()

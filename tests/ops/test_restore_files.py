"""The files of one version are written from a backup, and no store is made."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from modelstore.errors import ConflictError, IntegrityError, NotFoundError, StoreError, UsageError
from modelstore.ops.backup import backup
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.elsewhere import key_of
from modelstore.ops.restore_files import FilesPlan, plan_files, restore_files
from modelstore.remotes.base import Remote
from modelstore.remotes.directory import DirectoryRemote, create_directory
from modelstore.remotes.keyfile import Passphrase
from modelstore.remotes.sealed import create_sealed
from modelstore.remotes.web import WebRemote
from modelstore.store import Store
from tests.crashes import crashes
from tests.models import files_of, write_model
from tests.ops.test_backup import LINE
from tests.remotes.servers import web_server

LAST = f"{LINE}@v1.2"


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Store:
    """A model with three versions, each built on the one before; the last has a file twice."""
    for number in range(3):
        source = write_model(tmp_path / f"run{number}", step=number * 1e-3)
        if number == 2:
            (source / "more").mkdir()
            (source / "more" / "again.json").write_bytes((source / "config.json").read_bytes())
            (source / "empty").write_bytes(b"")
        commit(store, source, LINE, CommitOptions(message=f"number {number}"))
    return store


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DirectoryRemote]:
    """An empty directory as a remote."""
    found = create_directory(tmp_path / "backups")
    yield found
    found.close()


@pytest.fixture(params=["directory", "sealed"])
def remote(request: pytest.FixtureRequest, directory: DirectoryRemote) -> Remote:
    """A remote whose frames are files, and one from which they must come."""
    if request.param == "directory":
        return directory
    return create_sealed(directory, Passphrase("correct horse"))


def write(remote: Remote, place: Path, ref: str = LAST) -> FilesPlan:
    """Restore in one step."""
    plan = plan_files(remote, place, ref)
    restore_files(remote, plan)
    return plan


def test_a_version_comes_as_files_alone(line: Store, remote: Remote, tmp_path: Path) -> None:
    """The directory has the version's files, byte for byte, and nothing else."""
    backup(line, remote)
    out = tmp_path / "below" / "out"
    plan = write(remote, out)
    assert plan.ref == LAST
    assert files_of(out) == files_of(tmp_path / "run2")
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []


def test_what_is_right_stays_and_what_is_missing_comes(
    line: Store, directory: DirectoryRemote, tmp_path: Path
) -> None:
    """The same command completes a directory, and does nothing where all is right."""
    backup(line, directory)
    write(directory, tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").unlink()
    assert [file.path for file in write(directory, tmp_path / "out").missing] == [
        "model.safetensors"
    ]
    assert files_of(tmp_path / "out") == files_of(tmp_path / "run2")
    assert write(directory, tmp_path / "out").missing == ()


@pytest.mark.parametrize("name", ["config.json", "mine.txt", "more"])
def test_nothing_is_overwritten(
    line: Store, directory: DirectoryRemote, tmp_path: Path, name: str
) -> None:
    """A directory with anything else in it is refused, and stays as it is."""
    backup(line, directory)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(ConflictError, match=name):
        write(directory, tmp_path / "out")
    assert files_of(tmp_path / "out") == {name: b"mine"}


def test_a_link_is_not_followed(line: Store, directory: DirectoryRemote, tmp_path: Path) -> None:
    """A symlink in the place of a directory of the version is refused."""
    backup(line, directory)
    (tmp_path / "out").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "out" / "more").symlink_to(tmp_path / "outside")
    with pytest.raises(ConflictError):
        write(directory, tmp_path / "out")
    assert not list((tmp_path / "outside").iterdir())


def test_a_web_server_gives_the_files_of_what_lies_behind_it(
    line: Store, directory: DirectoryRemote, tmp_path: Path
) -> None:
    """Any server of files will do: a version whose backup is known by name comes from it."""
    made = backup(line, directory)
    with web_server(tmp_path / "backups") as url:
        remote = WebRemote(url)
        plan = plan_files(remote, tmp_path / "out", LAST, at=made.backup.name)
        restore_files(remote, plan)
        remote.close()
    assert files_of(tmp_path / "out") == files_of(tmp_path / "run2")


def test_one_version_must_be_named(line: Store, directory: DirectoryRemote, tmp_path: Path) -> None:
    """A model of several versions is none, and what is not there is not found."""
    backup(line, directory)
    with pytest.raises(UsageError):
        write(directory, tmp_path / "out", LINE)
    with pytest.raises(NotFoundError):
        write(directory, tmp_path / "out", f"{LINE}@v9.0")


def test_damage_anywhere_below_is_an_error(
    line: Store, remote: Remote, directory: DirectoryRemote, tmp_path: Path
) -> None:
    """A flipped bit in any file of the destination gives the right files, or an error and none."""
    backup(line, remote)
    expected = files_of(tmp_path / "run2")
    refused = 0
    for number, path in enumerate(sorted((tmp_path / "backups").rglob("*"))):
        if not path.is_file() or path.name == "sealed.json" or ".mstore-tmp" in path.parts:
            continue
        whole = path.read_bytes()
        place = len(whole) * 2 // 3
        path.chmod(0o600)
        path.write_bytes(whole[:place] + bytes((whole[place] ^ 16,)) + whole[place + 1 :])
        out = tmp_path / f"out{number}"
        try:
            write(remote, out)
        except StoreError:
            refused += 1
            assert not out.exists() or files_of(out) == {}
        else:
            assert files_of(out) == expected
        path.write_bytes(whole)
    assert refused


def test_a_missing_frame_is_named(line: Store, directory: DirectoryRemote, tmp_path: Path) -> None:
    """What is not there any more is an error that says which backup lacks it."""
    backup(line, directory)
    manifest = plan_files(directory, tmp_path / "out", LAST).manifest
    directory.delete([key_of(max(manifest.blobs()))])
    with pytest.raises(IntegrityError, match=r"v1\.2 of backup"):
        write(directory, tmp_path / "out")


def test_a_restore_of_files_that_is_killed_can_be_run_again(
    line: Store, directory: DirectoryRemote, tmp_path: Path
) -> None:
    """Wherever it is killed, the same command completes it."""
    backup(line, directory)
    expected = files_of(tmp_path / "run2")
    step, died = 1, True
    while died:
        out = tmp_path / f"out{step}"
        died = crashes(partial(write, directory, out), step)
        write(directory, out)
        assert files_of(out) == expected
        step += 3
    assert step > 10

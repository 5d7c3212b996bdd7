"""What a store has lost comes back from a remote, whatever the frames there are built on."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.ops.backup import backup
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.elsewhere import key_of
from modelstore.ops.fsck import Level, fsck
from modelstore.ops.mend import repair
from modelstore.ops.mend_remote import from_remote
from modelstore.ops.repack import repack
from modelstore.ops.repack_ways import Effort
from modelstore.ops.resolve import resolve
from modelstore.remotes.directory import create_directory
from modelstore.store import Store
from tests.models import write_model
from tests.ops.test_backup import LINE, damage


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Store:
    """A model with four versions, each made from the one before."""
    for number in range(4):
        source = write_model(tmp_path / f"run{number}", step=number * 1e-3)
        commit(store, source, LINE, CommitOptions(message=f"number {number}"))
    return store


def test_everything_comes_back(line: Store, tmp_path: Path) -> None:
    """A store of which every other frame is lost, and some are damaged, is whole again."""
    remote = create_directory(tmp_path / "backups")
    backup(line, remote)
    for number, digest in enumerate(sorted(line.blobs.iter_digests())):
        if number % 2:
            line.blobs.path(digest).unlink()
        elif number % 3 == 0:
            damage(line.blobs.path(digest))
    assert not fsck(line, Level.FULL).sound
    found = repair(line, Level.FULL, more=[from_remote(remote)])
    assert found.sound
    assert found.mended
    assert fsck(line, Level.FULL).sound


def test_frames_that_are_built_otherwise_there_fit(line: Store, tmp_path: Path) -> None:
    """Each base that is lost here comes back less deep than what is built on it here."""
    remote = create_directory(tmp_path / "backups")
    backup(line, remote)
    repack(line, effort=Effort.MAX)
    bases = {line.blobs.header(d).base for d in line.blobs.iter_digests()} - {None}
    assert bases
    for base in bases:
        assert base is not None
        line.blobs.path(base).unlink()
    assert repair(line, more=[from_remote(remote)]).sound
    assert fsck(line, Level.FULL).sound


def test_what_the_remote_lacks_stays_lost_and_nothing_else(line: Store, tmp_path: Path) -> None:
    """One blob that is nowhere, or damaged there, does not keep others from coming back."""
    remote = create_directory(tmp_path / "backups")
    backup(line, remote)
    named = line.manifest(LINE, resolve(line, "v1.0").entry).blobs()  # not in its directory, too
    alone = [digest for digest in sorted(named) if not line.blobs.header(digest).built_on]
    remote.delete([key_of(alone[0])])
    damage(tmp_path / "backups" / key_of(alone[1]))
    for digest in alone[:4]:
        line.blobs.path(digest).unlink()
    repair(line, more=[from_remote(remote)])
    assert [digest in line.blobs for digest in alone[:4]] == [False, False, True, True]

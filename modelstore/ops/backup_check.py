"""Whether backups could be restored: that their documents can be read, and all that they need is there.

A check reads every manifest and the header of every frame that is needed, and with a subset every
byte of a part of the frames. Only decoding proves a blob's own digest, which a restore always does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from modelstore.errors import IntegrityError, NewerFormatError, NotFoundError
from modelstore.hashing import Digest
from modelstore.ops.backup_document import (
    Backup,
    moment_of,
    names_at,
    read_backup,
)
from modelstore.ops.backup_frames import RemoteFrames
from modelstore.ops.backup_retention import SKEW
from modelstore.ops.fsck import Subset
from modelstore.progress import Progress, silent
from modelstore.remotes.base import Remote


@dataclass(frozen=True, slots=True)
class BackupProblem:
    """Something that is wrong with a backup.

    Attributes:
        backup: its name.
        versions: those that cannot be restored from it because of that, as full refs; () for none,
            or where its document cannot be read.
        what: one sentence.
    """

    backup: str
    versions: tuple[str, ...]
    what: str


@dataclass(frozen=True, slots=True)
class CheckedBackups:
    """What a check of backups went over, and what it found.

    Attributes:
        backups: how many there are.
        frames: how many frames they need.
        bytes_read: bytes of frames that were read and compared with their checksums.
        problems: what is wrong; () for nothing.
        incomplete: backups that say themselves that the store had lost something.
    """

    backups: int
    frames: int
    bytes_read: int
    problems: tuple[BackupProblem, ...]
    incomplete: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether there is a backup, and nothing is wrong."""
        return self.backups > 0 and not self.problems


def check(
    remote: Remote, subset: Subset | None = None, progress: Progress = silent
) -> CheckedBackups:
    """Check all backups at a remote; nothing is written.

    Args:
        subset: also read every byte of this part of the frames that are needed.

    Raises:
        RemoteError: it cannot be listed or read, so that nothing could be concluded.
    """
    names = names_at(remote)
    frames = RemoteFrames(remote)
    found: list[BackupProblem] = []
    needs: dict[str, _Needs] = {}
    incomplete = []
    for name in names:
        try:
            one = read_backup(remote, name)
        except (IntegrityError, NotFoundError, NewerFormatError) as error:
            found.append(BackupProblem(name, (), error.message))
            continue
        if not one.complete:
            incomplete.append(name)
        needs[name] = _needs_of(one, frames)
    needed = frames.closure({d for need in needs.values() for d in need.all()})
    read = _read(frames, needed, subset, progress) if subset is not None else 0
    touched = _touched(frames, needed)
    for name, need in needs.items():
        found += need.problems(name, touched)
    return CheckedBackups(len(names), len(needed), read, tuple(found), tuple(incomplete))


@dataclass(frozen=True, slots=True)
class _Needs:
    """What a backup needs: the blobs of each version, and those of its small files.

    Attributes:
        lost: blobs of which the backup says itself that they are not there.
    """

    versions: dict[str, set[Digest]]
    files: set[Digest]
    lost: set[Digest]

    def all(self) -> set[Digest]:
        return self.files.union(*self.versions.values())

    def problems(self, name: str, touched: dict[Digest, str]) -> Iterator[BackupProblem]:
        """Yield a problem for everything that is wrong with what is needed."""
        refs: dict[str, list[str]] = {}
        for ref, blobs in self.versions.items():
            if blobs & self.lost:
                continue
            for what in sorted({touched[digest] for digest in blobs & touched.keys()}):
                refs.setdefault(what, []).append(ref)
        for what in sorted({touched[digest] for digest in self.files & touched.keys()}):
            refs.setdefault(f"of its small files, {what}", [])
        yield from (BackupProblem(name, tuple(found), what) for what, found in refs.items())


def _needs_of(backup: Backup, frames: RemoteFrames) -> _Needs:
    versions = {}
    for ref, digest in backup.manifests():
        versions[ref] = {digest}
        try:
            versions[ref] |= frames.manifest(digest).blobs()
        except (IntegrityError, NewerFormatError) as error:
            frames.wrong[digest] = error.message
        except NotFoundError:
            continue  # which its absence tells
    return _Needs(versions, backup.small_blobs().keys() | set(), {m.blob for m in backup.missing})


def _read(frames: RemoteFrames, needed: set[Digest], subset: Subset, progress: Progress) -> int:
    sizes = {digest: frames.listed[digest].size for digest in needed if digest in frames}
    chosen = subset.choose(sizes)
    return frames.check(chosen, counted(progress, "check", sum(sizes[d] for d in chosen)))


def counted(progress: Progress, stage: str, total: int) -> Callable[[int], None]:
    """Return what counts bytes up to ``total`` and tells ``progress``."""
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        progress(stage, done, total)

    return count


def _touched(frames: RemoteFrames, needed: set[Digest]) -> dict[Digest, str]:
    """Return why blobs cannot be read: those that are absent or wrong, and what is built on them."""
    causes = {digest: f"blob '{digest}' is not there" for digest in needed if digest not in frames}
    causes |= frames.wrong
    return frames.touched(causes)


# --- status


@dataclass(frozen=True, slots=True)
class BackupStatus:
    """How old the last good backup is.

    Attributes:
        newest: the last backup; None if there is none.
        good: the last complete one; None if there is none.
        age: how old that is; None without one.
        future: backups that are dated in the future, which count for nothing here.
    """

    newest: Backup | None
    good: Backup | None
    age: timedelta | None
    future: tuple[str, ...]

    def is_older_than(self, limit: timedelta) -> bool:
        """Tell whether there is no complete backup that is younger than ``limit``."""
        return self.age is None or self.age > limit


def status(remote: Remote, now: datetime | None = None) -> BackupStatus:
    """Return how old the last complete backup is.

    A backup that is dated in the future, by a clock that was wrong, must not hide that there has
    been none since.

    Args:
        now: the time; None for now.
    """
    now = now or datetime.now(timezone.utc)
    names = names_at(remote)
    future = tuple(name for name in names if moment_of(name) > now + SKEW)
    newest = good = None
    for name in reversed([name for name in names if name not in future]):
        found = read_backup(remote, name)
        newest = newest or found
        if found.complete:
            good = found
            break
    age = None if good is None else max(timedelta(0), now - good.moment)
    return BackupStatus(newest, good, age, future)

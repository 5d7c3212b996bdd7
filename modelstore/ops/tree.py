"""Which files of a directory become a version.

What a trainer leaves beside the model is skipped, by rules that are shown, and said. So is a
directory that is a store of its own.
`.mstoreignore` adds rules: one shell pattern per line, a trailing slash for directories only,
a leading ``!`` to take a file after all; the last rule that fits decides.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from modelstore.blobs.source import FileSource
from modelstore.errors import ConflictError, NotFoundError, UsageError
from modelstore.names import collision, parse_path, printable

IGNORE_FILE = ".mstoreignore"

DEFAULT_RULES = (
    "checkpoint-*/",
    "global_step*/",
    "optimizer.pt",
    "optimizer.bin",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "events.out.tfevents.*",
    ".cache/",
    ".git",
    ".ipynb_checkpoints/",
    "__pycache__/",
    ".DS_Store",
    "Thumbs.db",
    IGNORE_FILE,
    ".mstore-*.tmp",
    ".README.md.*.tmp",
    ".model_info.json.*.tmp",
    ".manifest.json.*.tmp",
)
"""What Trainer, git, file managers and a killed mstore leave beside a model.

`.mstoreignore` may take any of it back.
"""


Seen = tuple[int, ...]
"""Size in bytes, times of the last write and of the last change in nanoseconds, inode; or nothing."""

_SHARED_BLOBS = ".huggingface-shared-blobs"
"""The file that marks the directory where a Hugging Face cache keeps what several models share."""

_MOST_RULES = 1 << 20
"""Bytes of an `.mstoreignore`."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that becomes content.

    Attributes:
        path: within the version.
        source: where its bytes lie.
        size: in bytes, when it was found.
        executable: whether its owner may run it.
        seen: what tells whether it changed since, as `seen_of` gives it; () where nobody asks.
    """

    path: str
    source: Path
    size: int
    executable: bool
    seen: Seen = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of a directory: those that become content, and those that a rule skipped."""

    files: tuple[Found, ...]
    skipped: tuple[str, ...]


def walk(root: Path, *, follow_symlinks: bool = False) -> Tree:
    """Return the files at ``root``, a directory or one file, sorted by path.

    Raises:
        NotFoundError: there is nothing at ``root``.
        BadNameError: a file's name could not be written on every system.
        ConflictError: two names differ only by case or Unicode form.
        UsageError: a special file, or a symlink that leads outside.
    """
    if root.is_file():
        return Tree((_found(root, parse_path(root.name)),), ())
    if root.exists() and not root.is_dir():
        raise UsageError(
            f"'{root}' is neither a file nor a directory", "give the directory of a model"
        )
    if not root.is_dir():
        raise NotFoundError(f"there is no file or directory '{root}'", "check the path")
    files: list[Found] = []
    skipped: list[str] = []
    rules = [*DEFAULT_RULES, *_own_rules(root)]
    for path, entry in _entries(root, "", rules, skipped, _Links(root, follow_symlinks)):
        files.append(_found(Path(entry), path))
    files.sort(key=lambda file: file.path)
    _refuse_collisions(files)
    return Tree(tuple(files), tuple(sorted(skipped)))


class _Links:
    """Decides which symlinks of a tree are followed."""

    def __init__(self, root: Path, follow: bool) -> None:
        real = root.resolve()
        self._inside = [real]
        self._follow = follow
        if real.parent.name == "snapshots":  # a Hugging Face cache: snapshots/<revision> -> blobs
            self._inside.append(real.parent.parent / "blobs")
            shared = real.parent.parent.parent / "blobs"  # and, since 2.4, on to blobs of them all
            if (shared / _SHARED_BLOBS).is_file():
                self._inside.append(shared)
        self.seen = {real}

    def check(self, path: str, link: Path) -> None:
        """Raise unless the symlink ``link`` may be followed."""
        target = link.resolve()
        if not target.exists():
            raise UsageError(f"{printable(path)!r} is a symlink to nothing", "remove it or mend it")
        if self._follow:
            if target.is_dir() and target in self.seen:
                raise UsageError(f"{printable(path)!r} is a symlink that leads back into the tree")
            self.seen.add(target)
            return
        if not target.is_file() or not any(target.is_relative_to(d) for d in self._inside):
            raise UsageError(
                f"{printable(path)!r} is a symlink to '{target}'",
                "commit what it leads to with: mstore commit --follow-symlinks",
            )


def _entries(
    directory: Path, prefix: str, rules: list[str], skipped: list[str], links: _Links
) -> Iterator[tuple[str, str]]:
    with os.scandir(directory) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{prefix}{entry.name}"
        is_dir = entry.is_dir(follow_symlinks=True)
        if _ignored(path, is_dir, rules) or (is_dir and os.path.isdir(f"{entry.path}/.mstore")):
            skipped.append(f"{path}/" if is_dir else path)
            continue
        parse_path(path)
        if entry.is_symlink():
            links.check(path, Path(entry.path))
        if is_dir:
            yield from _entries(Path(entry.path), f"{path}/", rules, skipped, links)
        elif entry.is_file():
            yield path, entry.path
        else:
            raise UsageError(
                f"{printable(path)!r} is neither a file nor a directory",
                f"remove it, or name it in {IGNORE_FILE}",
            )


def _found(source: Path, path: str) -> Found:
    status = source.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path!r} is not a regular file", "commit a directory or a file")
    executable = bool(status.st_mode & stat.S_IXUSR)
    return Found(path, source, status.st_size, executable, seen_of(status))


def seen_of(status: os.stat_result) -> Seen:
    """Return what differs once a file was written to or replaced.

    The time of the last change of the inode is part of it, as nobody can set that one back.
    """
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _own_rules(root: Path) -> list[str]:
    path = root / IGNORE_FILE
    if not path.exists():
        return []
    try:
        with FileSource(path) as source:
            text = source.read(0, min(source.size, _MOST_RULES)).decode("utf-8")
            if source.size > _MOST_RULES:
                raise UsageError(f"'{path}' is larger than {_MOST_RULES} bytes", "shorten it")
    except UnicodeDecodeError as error:
        raise UsageError(f"'{path}' is not UTF-8 text", "write it in UTF-8") from error
    return rules_of(text)


def rules_of(text: str) -> list[str]:
    """Return the rules of an `.mstoreignore`, or of a `.gitignore`, as far as they are alike."""
    rows = (row.strip() for row in text.splitlines())
    return [row for row in rows if row and not row.startswith("#")]


def is_ignored(path: str, rules: Sequence[str]) -> bool:
    """Tell whether rules leave out a file, or a directory that it lies in."""
    above = [path[:at] for at, c in enumerate(path) if c == "/"]
    return any(_ignored(each, True, rules) for each in above) or _ignored(path, False, rules)


def _ignored(path: str, is_dir: bool, rules: Sequence[str]) -> bool:
    decision = False
    name = path.rsplit("/", 1)[-1]
    for rule in rules:
        pattern = rule.removeprefix("!")
        if pattern.endswith("/"):
            if not is_dir:
                continue
            pattern = pattern[:-1]
        subject = path if "/" in pattern else name
        if fnmatchcase(subject, pattern.lstrip("/")):
            decision = not rule.startswith("!")
    return decision


def _refuse_collisions(files: list[Found]) -> None:
    found = collision(file.path for file in files)
    if found:
        raise ConflictError(
            f"{found[0]!r} and {found[1]!r} cannot lie side by side on some systems",
            "rename one of them",
        )

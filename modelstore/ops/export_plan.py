"""What an export writes, whichever layout it is for, and the one way in which it is written.

First the files, decoded aside and proved; then the links to them; and last, one after the other, the
small files that make the rest be found. Killed anywhere, an export leaves a layout that is as it was
before, but for files that nothing names yet; done again, it goes on from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from modelstore import disk
from modelstore.errors import ConflictError, StoreError
from modelstore.manifest import FileEntry, Manifest
from modelstore.ops import place, present, working
from modelstore.ops.resolve import Resolved
from modelstore.ops.writing import Placed, require_room, write_files
from modelstore.progress import Progress
from modelstore.reading import read_if_readable
from modelstore.store import Store


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a version is to be exported; what only some layouts know is told from "" and ().

    Attributes:
        output: where to.
        force: overwrite what is somebody else's.
        repo_id: "owner/name" that clients of the Hub are to know the model by.
        main: make the version what clients of the Hub get that name none.
        tag: the name of the version in an OCI layout.
        files: shell patterns of the GGUF files that are wanted.
    """

    output: Path
    force: bool = False
    repo_id: str = ""
    main: bool = False
    tag: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Links:
    """A directory of links, which appears whole.

    Attributes:
        directory: where.
        targets: what each link says, by its path within.
    """

    directory: Path
    targets: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Small:
    """A small file of the layout itself.

    Attributes:
        path: where it lies.
        make: returns its bytes, right before they are written: it may be others' too.
    """

    path: Path
    make: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What an export would do.

    Attributes:
        resolved: the version.
        to: the layout: "hf-cache", "dir", "gguf-passthrough" or "oci".
        path: what programs are pointed at.
        root: the directory that all of it lies in; files are staged there.
        missing: files to write.
        kept: paths within the version of what is there already, and right.
        links: links to what was written, or None.
        small: files of the layout itself, in the order in which they are written.
        directories: that a reader of the layout expects, though they be empty.
        names: what the version is called there.
        warnings: sentences about what may surprise.
        force: as it was asked for.
    """

    resolved: Resolved
    to: str
    path: Path
    root: Path
    missing: tuple[Placed, ...] = ()
    kept: tuple[str, ...] = ()
    links: Links | None = None
    small: tuple[Small, ...] = ()
    directories: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    force: bool = False

    @property
    def size(self) -> int:
        """Bytes of the files to write."""
        return sum(file.size for file, _ in self.missing)

    @property
    def written(self) -> tuple[str, ...]:
        """Paths within the version of the files to write."""
        return tuple(file.path for file, _ in self.missing)


def contents(store: Store, resolved: Resolved) -> Manifest:
    """Return the manifest of a version that is exported."""
    return store.manifest(resolved.model, resolved.entry)


def require_outside(store: Store, output: Path) -> None:
    """Raise if an export would be written into the store.

    Raises:
        ConflictError: it would.
    """
    if output.resolve().is_relative_to(store.root.resolve()):
        raise ConflictError(f"'{output}' lies in the store", "give a directory outside: -o DIR")


@dataclass(slots=True)
class Sorted:
    """Files of an export: those to write, and those that are there already, and right."""

    missing: list[Placed] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    seen: set[Path] = field(default_factory=set)

    def add(self, file: FileEntry, path: Path) -> None:
        """Look whether ``path`` holds ``file``; of several files for one path the first counts."""
        if path in self.seen:
            return
        self.seen.add(path)
        if path.is_file() and working.holds(path, file, None):
            self.kept.append(file.path)
        else:
            self.missing.append((file, path))


def carry_out(store: Store, plan: ExportPlan, progress: Progress) -> None:
    """Write what a plan says.

    Raises:
        ConflictError: something is in the way.
        DiskFullError: the disk is full. What was written before stays, and nothing names it.
        IntegrityError: a blob is damaged; no file got its name.
    """
    present.require(store, plan.resolved, progress)
    disk.make_dir(plan.root)
    place.sweep(plan.root)
    require_room(plan.root, [file for file, _ in plan.missing], "export elsewhere: -o DIR")
    for directory in plan.directories:
        disk.make_dir(directory)
    if plan.missing:
        write_files(store, plan.root, plan.missing, progress, clear=_refuse_directory)
    if plan.links is None and not plan.small:
        return
    staging = place.staging(plan.root)
    disk.make_new_dir(staging)
    try:
        if plan.links is not None:
            _put_links(plan.links, staging)
        for number, small in enumerate(plan.small):
            _put_small(small, staging / f"small-{number}")
    finally:
        disk.remove_tree(staging)


def _refuse_directory(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        raise ConflictError(f"'{path}' is a directory", "move it away")


def _put_small(small: Small, staged: Path) -> None:
    data = small.make()
    if not small.path.is_symlink() and read_if_readable(small.path, len(data) + 1) == data:
        return
    _refuse_directory(small.path)
    disk.make_dir(small.path.parent)
    with disk.NewFile(staged) as new:
        new.write(data)
        new.close(sync=True)
        disk.rename(staged, small.path)


def _put_links(links: Links, staging: Path) -> None:
    """Make a directory of links, all at once; where it is there already, what is wrong in it."""
    final = links.directory
    if not os.path.lexists(final):
        fresh = staging / "links"
        disk.make_new_dir(fresh)
        for name, target in links.targets.items():
            _link(final, name, target, fresh / name)
        for directory in sorted({(fresh / name).parent for name in links.targets} | {fresh}):
            disk.sync_dir(directory)
        disk.make_dir(final.parent)
        try:
            disk.move_new(fresh, final)
        except StoreError:  # another process was faster, and the name says what is in it
            if not final.is_dir():
                raise
        return
    if final.is_symlink() or not final.is_dir():
        raise ConflictError(f"'{final}' is no directory", "move it away")
    for number, (name, target) in enumerate(links.targets.items()):
        if not _leads(final / name, target) and not _is_copy(final / name, target):
            _refuse_directory(final / name)
            staged = staging / f"link-{number}"
            _link(final, name, target, staged)
            disk.make_dir((final / name).parent)
            disk.rename(staged, final / name)


def _leads(path: Path, target: str) -> bool:
    with suppress(OSError):
        return os.readlink(path) == target
    return False


def _is_copy(path: Path, target: str) -> bool:
    """Tell whether ``path`` is a copy of what a link there would lead to."""
    source = _source(path, target)
    if path.is_symlink() or not path.is_file() or path.stat().st_size != source.stat().st_size:
        return False
    return working.hash_file(path) == working.hash_file(source)


def _source(path: Path, target: str) -> Path:
    return Path(os.path.normpath(path.parent / target))


def _link(final: Path, name: str, target: str, path: Path) -> None:
    """Make the link ``path`` that will lie at ``final/name``; a copy where there are no links."""
    disk.make_dir(path.parent)
    if not disk.symlink(target, path):
        disk.copy_new(_source(final / name, target), path)
        disk.sync_path(path)

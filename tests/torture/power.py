"""What a disk may hold after a power cut, by what POSIX promises and nothing more.

A file's bytes are durable up to its last fsync. What was written since may be there, or not, or be
zeros, or end anywhere: in any mixture, whatever the order. A directory's names are durable up to
its own last fsync; of those made, moved and removed since, any subset may be there. A rename within
one directory happens whole or not at all; one across directories is a new name and a removed one,
and either may be there without the other. An fsync of a file is no fsync of its name, nor the other
way round. A syncfs makes all durable.

ext4, xfs and btrfs promise more (ordered journals, and syncs of a new file's name), so this finds
mistakes that would take years to show on them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import Call

Tree = Mapping[str, bytes | None]
"""A directory as it lies there: relative paths, bytes of files, None for directories."""

BLOCK = 512


@dataclass
class File:
    """A file: its bytes as they are durable, and as whoever reads it now sees them."""

    durable: bytes = b""
    now: bytearray = field(default_factory=bytearray)


@dataclass
class Directory:
    """A directory: its names as they are durable, and now."""

    durable: dict[str, File | Directory] = field(default_factory=dict)
    now: dict[str, File | Directory] = field(default_factory=dict)


Node = File | Directory


@dataclass(frozen=True)
class Pending:
    """A change of a directory that is not durable yet: names, and what they mean, None for gone."""

    directory: Directory
    names: Mapping[str, Node | None]


class Disk:
    """A directory below which calls are made again, on a disk that forgets.

    Args:
        root: where the calls were made.
        tree: what lay there before the first; all of it durable.
    """

    def __init__(self, root: Path, tree: Tree) -> None:
        self.root = root
        self.top = Directory()
        self.pending: list[Pending] = []
        self._handles: dict[int, Node] = {}
        for name, data in sorted(tree.items()):
            node = Directory() if data is None else File(data, bytearray(data))
            parent, leaf = self._place(root / name)
            parent.durable[leaf] = parent.now[leaf] = node

    def make(self, call: Call, *, lost: bool = False) -> None:
        """Make a call again; a sync that is ``lost`` does nothing."""
        if not (lost and call.name in {"fsync", "syncfs"}):
            getattr(self, f"_{call.name}")(call)

    def clean(self) -> bool:
        """Tell whether everything is durable."""
        return not self.pending and all(file.durable == file.now for file in self._files())

    # --- calls

    def _open(self, call: Call) -> None:
        path, flags = call.arguments[:2]
        parent, leaf = self._place(path)
        node = parent.now.get(leaf)
        if node is None and path != self.root:
            node = File()
            self._name(parent, {leaf: node})
        if path == self.root:
            node = self.top
        assert node is not None
        if flags & os.O_TRUNC and isinstance(node, File):
            node.now.clear()
        self._handles[call.result] = node

    def _close(self, call: Call) -> None:
        self._handles.pop(call.arguments[0], None)

    def _write(self, call: Call) -> None:
        node = self._handles[call.arguments[0]]
        assert isinstance(node, File)
        node.now += call.arguments[1][: call.result]

    def _pwrite(self, call: Call) -> None:
        handle, data, offset = call.arguments
        node = self._handles[handle]
        assert isinstance(node, File)
        node.now.extend(bytes(max(0, offset - len(node.now))))
        node.now[offset : offset + call.result] = data[: call.result]

    def _truncate(self, call: Call) -> None:
        parent, leaf = self._place(call.arguments[0])
        node = parent.now[leaf]
        assert isinstance(node, File)
        del node.now[call.arguments[1] :]

    def _mkdir(self, call: Call) -> None:
        parent, leaf = self._place(call.arguments[0])
        self._name(parent, {leaf: Directory()})

    def _link(self, call: Call) -> None:
        source, target = map(self._place, call.arguments)
        self._name(target[0], {target[1]: source[0].now[source[1]]})

    def _rename(self, call: Call) -> None:
        (before, old), (after, new) = map(self._place, call.arguments)
        node = before.now[old]
        if before is after:
            self._name(after, {old: None, new: node})
        else:
            self._name(after, {new: node})
            self._name(before, {old: None})

    def _unlink(self, call: Call) -> None:
        parent, leaf = self._place(call.arguments[0])
        if leaf in parent.now:  # a lock's file is not made through the seam
            self._name(parent, {leaf: None})

    def _rmdir(self, call: Call) -> None:
        self._unlink(call)

    def _chmod(self, call: Call) -> None:
        """Nobody depends on permission bits."""

    def _fsync(self, call: Call) -> None:
        node = self._handles[call.arguments[0]]
        if isinstance(node, File):
            node.durable = bytes(node.now)
            return
        for change in self.pending:
            if change.directory is node:
                _apply(node.durable, change.names)
        self.pending = [change for change in self.pending if change.directory is not node]

    def _syncfs(self, call: Call) -> None:
        for file in self._files():
            file.durable = bytes(file.now)
        for change in self.pending:
            _apply(change.directory.durable, change.names)
        self.pending = []

    # --- what is there

    def _name(self, directory: Directory, names: Mapping[str, Node | None]) -> None:
        _apply(directory.now, names)
        self.pending.append(Pending(directory, names))

    def _place(self, path: Path) -> tuple[Directory, str]:
        """Return the directory that a path lies in, as it is now, and the name there."""
        parts = Path(path).relative_to(self.root).parts
        directory = self.top
        for part in parts[:-1]:
            below = directory.now[part]
            assert isinstance(below, Directory)
            directory = below
        return directory, parts[-1] if parts else ""

    def _files(self) -> Iterator[File]:
        """Yield every file that has a name now, or may have one after a power cut."""
        waiting: list[Node] = [self.top]
        waiting += [n for change in self.pending for n in change.names.values() if n is not None]
        seen: set[int] = set()
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, File):
                yield node
            else:
                waiting += [*node.now.values(), *node.durable.values()]

    # --- power cuts

    def after_cut(self, kept: Sequence[bool], fate: Fate) -> Tree:
        """Return what lies there if of the pending changes those marked in ``kept`` came through.

        Args:
            kept: one mark for each of `pending`.
            fate: what became of bytes that were not synced.
        """
        names: dict[int, dict[str, Node]] = {}
        for change, came in zip(self.pending, kept, strict=True):
            if came:
                now = names.setdefault(id(change.directory), dict(change.directory.durable))
                _apply(now, change.names)
        tree: dict[str, bytes | None] = {}
        waiting: list[tuple[str, Directory]] = [("", self.top)]
        while waiting:
            prefix, directory = waiting.pop()
            for name, node in names.get(id(directory), directory.durable).items():
                path = f"{prefix}{name}"
                if isinstance(node, Directory):
                    tree[path] = None
                    waiting.append((f"{path}/", node))
                else:
                    tree[path] = fate.of(node)
        return tree

    def cuts(self, chance: random.Random, count: int) -> Iterator[Tree]:
        """Yield states that a power cut may leave now: the extremes, and ``count`` by chance."""
        size = len(self.pending)
        for kept in ([False] * size, [True] * size):
            for kind in ("old", "new", "zeros", "part"):
                yield self.after_cut(kept, Fate(kind, chance))
        for _ in range(count):
            cut = chance.randint(0, size)
            prefix = [number < cut for number in range(size)]
            subset = [chance.random() < 0.5 for _ in range(size)]
            for kept in (prefix, subset):
                yield self.after_cut(kept, Fate("any", chance))


class Fate:
    """What becomes of bytes that were not synced: the same for all files, or "any" for each."""

    def __init__(self, kind: str, chance: random.Random) -> None:
        self.kind = kind
        self.chance = chance
        self._of: dict[int, bytes] = {}

    def of(self, file: File) -> bytes:
        """Return the bytes of a file after the cut; the same by all its names."""
        if file.durable == file.now:
            return file.durable
        if id(file) not in self._of:
            kind = self.kind
            if kind == "any":
                kind = self.chance.choice(("old", "new", "zeros", "part", "holes"))
            self._of[id(file)] = self._one(file, kind)
        return self._of[id(file)]

    def _one(self, file: File, kind: str) -> bytes:
        now, same = bytes(file.now), _common(file.durable, file.now)
        if kind == "zeros":
            return now[:same] + bytes(len(now) - same)
        if kind == "part":
            return now[: self.chance.randint(min(same, len(now)), len(now))]
        if kind == "holes":
            blocks = [now[at : at + BLOCK] for at in range(same, len(now), BLOCK)]
            came = (b if self.chance.random() < 0.5 else bytes(len(b)) for b in blocks)
            return now[:same] + b"".join(came)
        return now if kind == "new" else file.durable


def _common(one: bytes, other: bytearray) -> int:
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _apply(directory: dict[str, Node], names: Mapping[str, Node | None]) -> None:
    for name, node in names.items():
        if node is None:
            directory.pop(name, None)
        else:
            directory[name] = node


def scan(root: Path) -> Tree:
    """Return what lies below ``root``."""
    return {
        path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


def lay(tree: Tree, root: Path) -> None:
    """Put ``tree`` at ``root``, which must not exist."""
    root.mkdir()
    for name, data in sorted(tree.items()):
        if data is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(data)

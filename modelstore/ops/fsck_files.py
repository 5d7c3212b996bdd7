"""Checking whole files: the digests that a manifest gives for a file are those of its bytes.

Versions of one model have most tensors in common, at the same place of the same file. So all files
are hashed side by side, place by place: a tensor that many of them have is decoded once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from modelstore.hashing import Digest, FileHasher
from modelstore.manifest import FileEntry, Manifest
from modelstore.ops.findings import Affected, Finding
from modelstore.ops.fsck_frames import Frames
from modelstore.ops.resolve import Resolved


@dataclass(slots=True)
class _Hashed:
    """A file while it is hashed; the same one of several versions is hashed once."""

    file: FileEntry
    hasher: FileHasher
    refs: list[str] = field(default_factory=list)
    broken: bool = False

    def matches(self) -> bool:
        found = self.hasher.blake3, self.hasher.sha256, self.hasher.git_sha1
        return found == (self.file.blake3, self.file.sha256, self.file.git_sha1)


class Files:
    """The different files of a store's versions.

    Args:
        versions: all of them.
    """

    def __init__(self, versions: Iterable[tuple[Resolved, Manifest]]) -> None:
        self._files: dict[tuple[object, ...], _Hashed] = {}
        for resolved, manifest in versions:
            for file in manifest.files:
                blobs = tuple(span.blob for span in file.spans)
                digests = (file.path, file.size, file.blake3, file.sha256, file.git_sha1)
                known = self._files.setdefault(
                    (*digests, blobs), _Hashed(file, FileHasher(file.size))
                )
                known.refs.append(str(resolved))

    def decode(self, frames: Frames, progress: Callable[[int], None]) -> set[Digest]:
        """Decode every blob of the files, and hash the files; return the blobs that were decoded.

        Blobs that are known to be unreadable are passed over, and with them the files they are in.
        """
        unreadable = frames.unreadable()
        decoded: set[Digest] = set()
        most = max((len(one.file.spans) for one in self._files.values()), default=0)
        for place in range(most):
            for blob, files in self._at(place).items():
                if blob in unreadable or not self._feed(frames, blob, files):
                    for one in files:
                        one.broken = True
                    continue
                decoded.add(blob)
                progress(frames.sizes.get(blob, 0))
        return decoded

    def _at(self, place: int) -> dict[Digest, list[_Hashed]]:
        """Return the blobs that files have at a place, each with those files."""
        found: defaultdict[Digest, list[_Hashed]] = defaultdict(list)
        for one in self._files.values():
            if place < len(one.file.spans) and not one.broken:
                found[one.file.spans[place].blob].append(one)
        return found

    def _feed(self, frames: Frames, blob: Digest, files: list[_Hashed]) -> bool:
        """Decode a blob into the hashers of ``files``; return whether it could be."""
        for piece in frames.pieces(blob):
            for one in files:
                one.hasher.update(piece)
        return blob not in frames.causes

    def findings(self) -> Iterator[Finding]:
        """Yield a problem for every file whose bytes are not those that the manifest says."""
        for one in self._files.values():
            if not one.broken and not one.matches():
                names = tuple(t.name for span in one.file.spans for t in span.tensors)
                affected = tuple(Affected(ref, one.file.path, names) for ref in one.refs)
                what = "its blobs are intact, but joined they have other digests than the manifest"
                yield Finding("file", f"{one.refs[0]}:{one.file.path}", what, affected=affected)

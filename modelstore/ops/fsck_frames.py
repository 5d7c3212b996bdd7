"""Checking the frames of a store: that they are there, fit together, and hold what they are named by.

What is wrong with one frame is a cause; what cannot be read because of it is worked out afterwards,
so that every problem is told once, with all the versions and tensors that it touches.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from modelstore import disk
from modelstore.blobs import BlobStore, FrameHeader
from modelstore.blobs.parallel import in_order
from modelstore.errors import IntegrityError, NewerFormatError, NotFoundError, StoreError
from modelstore.hashing import DIGEST_SIZE, Digest, parse_digest
from modelstore.manifest import FileEntry, Manifest
from modelstore.ops.findings import Affected, Finding
from modelstore.ops.resolve import Resolved
from modelstore.progress import Progress
from modelstore.store import MANIFEST, META

DEPTH = 4
"""Where writers stop; a deeper frame was made by something else."""

_SMALL = 4 << 20
"""Bytes of a blob that has too few blocks to keep all threads busy by itself."""


class Frames:
    """The frames of a store, what is wrong with them, and what they are built on.

    Attributes:
        sizes: bytes of every file in blobs/ that a reader would find, by the name of its blob.
        causes: what is wrong, one sentence for each blob.
        unknown: files in blobs/ that no reader finds, and why.
        bytes_read: bytes of frames that were read whole.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._one_thread = BlobStore(blobs.root, threads=1)
        self.sizes: dict[Digest, int] = {}
        self.causes: dict[Digest, str] = {}
        self.unknown: dict[Path, str] = {}
        self.bytes_read = 0
        self._built_on: dict[Digest, tuple[Digest, ...]] = {}
        self._raw: dict[Digest, tuple[int, int]] = {}
        self._list()

    def _list(self) -> None:
        blobs = self._blobs.root / "blobs"
        if not blobs.is_dir():  # a Git clone of the small files
            return
        with disk.explained(blobs, "read"):
            for directory in sorted(blobs.iterdir()):
                if not directory.is_dir():
                    self.unknown[directory] = "is no frame"
                    continue
                for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
                    self._add(directory, entry)

    def _add(self, directory: Path, entry: os.DirEntry[str]) -> None:
        path = Path(entry.path)
        try:
            digest = parse_digest(entry.name)
        except ValueError:
            self.unknown[path] = "is no frame"
            return
        if entry.name[:2] != directory.name:
            self.unknown[path] = f"is a frame that belongs into blobs/{entry.name[:2]}/"
        elif not entry.is_file(follow_symlinks=False):
            self.causes[digest] = "is no regular file"
        else:
            self.sizes[digest] = entry.stat(follow_symlinks=False).st_size

    # --- looking

    def require(self, digest: Digest, size: int | None = None) -> None:
        """Check that a blob is here, with a header that fits its file, and has ``size`` raw bytes."""
        header = self._read_header(digest)
        if header is None:
            self.causes.setdefault(digest, "is not in the store")
        elif size is not None and header[0] != size:
            self.causes[digest] = f"has {header[0]} bytes, and the manifest says {size}"

    def _read_header(self, digest: Digest) -> tuple[int, int] | None:
        """Return the raw size and the depth of a frame, after noting what it is built on."""
        if digest in self._raw or digest in self.causes or digest not in self.sizes:
            return self._raw.get(digest)
        try:
            header = self._blobs.header(digest)
        except StoreError as error:
            self._note(digest, error)
            return None
        self._built_on[digest] = header.built_on
        self._raw[digest] = header.raw_size, header.depth
        self._fit(header)
        return self._raw[digest]

    def _fit(self, header: FrameHeader) -> None:
        """Check a frame against what it is built on."""
        for base in header.built_on:
            found = self._read_header(base)
            if found is None:
                self.causes.setdefault(base, "is not in the store")
            elif found[1] >= header.depth:
                self.causes[header.digest] = f"is built on '{base}', which is not less deep"
            elif base == header.base and found[0] != header.base_size:
                self.causes[header.digest] = f"is built on '{base}', which has another size"

    def look_at_all(self) -> None:
        """Check the headers of all frames, and all that any is built on."""
        for digest in self.sizes:
            self._read_header(digest)

    def too_deep(self) -> list[Digest]:
        """Return the frames that are deeper than any that mstore writes."""
        return [digest for digest, (_, depth) in self._raw.items() if depth > DEPTH]

    def built_on(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return ``digests`` and all that they are built on, as far as that is known."""
        found: set[Digest] = set()
        waiting = list(digests)
        while waiting:
            digest = waiting.pop()
            if digest not in found:
                found.add(digest)
                waiting += self._built_on.get(digest, ())
        return found

    def touched(self, cause: Digest) -> set[Digest]:
        """Return the blobs that cannot be read because of ``cause``, itself among them."""
        above = self._above()
        found: set[Digest] = set()
        waiting = [cause]
        while waiting:
            digest = waiting.pop()
            if digest not in found:
                found.add(digest)
                waiting += above.get(digest, ())
        return found

    def _above(self) -> Mapping[Digest, list[Digest]]:
        above: defaultdict[Digest, list[Digest]] = defaultdict(list)
        for digest, bases in self._built_on.items():
            for base in bases:
                above[base].append(digest)
        return above

    def unreadable(self) -> set[Digest]:
        """Return every blob that cannot be read."""
        return {digest for cause in self.causes for digest in self.touched(cause)}

    # --- reading

    def read_all(self, digests: Iterable[Digest], progress: Callable[[int], None]) -> None:
        """Compare every byte of frames with their checksums; nothing is decoded."""
        wanted = sorted(digest for digest in digests if digest in self.sizes)
        checked = in_order(self._check, wanted, min(self._blobs.threads, len(wanted)))
        for digest, error in zip(wanted, checked, strict=True):
            self.bytes_read += self.sizes[digest]
            progress(self.sizes[digest])
            if error is not None:
                self._note(digest, error)

    def _check(self, digest: Digest) -> StoreError | None:
        try:
            self._blobs.check(digest)
        except StoreError as error:
            return error
        return None

    def decode_all(self, digests: Iterable[Digest], progress: Callable[[int], None]) -> None:
        """Decode blobs and compare each with its name: small ones side by side."""
        broken = self.unreadable()
        wanted = sorted(d for d in digests if d in self._raw and d not in broken)
        small = [digest for digest in wanted if self._raw[digest][0] <= _SMALL]
        large = [digest for digest in wanted if self._raw[digest][0] > _SMALL]
        decoded = in_order(self._decode, small, min(self._blobs.threads, len(small)))
        for digest, error in zip(small, decoded, strict=True):
            progress(self.sizes[digest])
            if error is not None:
                self._note(digest, error)
        for digest in large:
            for _ in self.pieces(digest):
                pass
            progress(self.sizes[digest])

    def _decode(self, digest: Digest) -> StoreError | None:
        try:
            for _ in self._one_thread.blocks(digest):
                pass
        except StoreError as error:
            return error
        return None

    def pieces(self, digest: Digest) -> Iterator[bytes | bytearray | memoryview]:
        """Yield the raw bytes of a blob; what is wrong with it is noted and ends them."""
        try:
            yield from self._blobs.blocks(digest)
        except StoreError as error:
            self._note(digest, error)

    def _note(self, digest: Digest, error: StoreError) -> None:
        """Note what an error says of a blob, unless it says that the disk fails otherwise."""
        known = isinstance(error, IntegrityError | NotFoundError | NewerFormatError)
        if not known and error.exit_code != StoreError.exit_code:
            raise error
        self.causes.setdefault(digest, _without_name(error.message, digest))

    def look_again(self) -> None:
        """Drop what is no longer so: frames come, go and change while others are at work."""
        for digest, what in list(self.causes.items()):
            if what.startswith("is not in the store") and digest in self._blobs:
                del self.causes[digest]
            elif digest in self.sizes and not self._blobs.path(digest).exists():
                self.causes[digest] = "is not in the store"
                del self.sizes[digest]


def _without_name(message: str, digest: Digest) -> str:
    return message.removeprefix(f"blob '{digest}' ")


# --- what is lost with a frame


def findings(
    frames: Frames, versions: Iterable[tuple[Resolved, Manifest]], needed: set[Digest]
) -> Iterator[Finding]:
    """Yield a problem for every cause, with what of the versions cannot be read because of it.

    Args:
        versions: all of them; gone through once.
        needed: the blobs that versions need; what is wrong with others touches nothing.
    """
    touched = {cause: frames.touched(cause) for cause in frames.causes}
    causes: defaultdict[Digest, list[Digest]] = defaultdict(list)
    for cause, blobs in touched.items():
        for blob in blobs:
            causes[blob].append(cause)
    lost: defaultdict[Digest, list[Affected]] = defaultdict(list)
    for resolved, manifest in versions if causes else ():
        for blob, one in _affected(resolved, manifest, causes):
            for cause in causes[blob]:
                lost[cause].append(one)
    for cause, what in frames.causes.items():
        affected = _joined(lost[cause])
        present = cause in frames.sizes
        if touched[cause] & needed:
            yield Finding("blob", cause, what, affected=affected)
        elif present or len(touched[cause]) > 1:  # else a gc has just taken it away
            yield Finding("blob", cause, f"{what}; no version needs it", serious=present)


def _affected(
    resolved: Resolved, manifest: Manifest, blobs: Mapping[Digest, object]
) -> Iterator[tuple[Digest, Affected]]:
    if resolved.id is not None and resolved.id in blobs:
        yield resolved.id, Affected(str(resolved), MANIFEST)
    for file in manifest.files:
        yield from _affected_in(resolved, file, blobs)


def _affected_in(
    resolved: Resolved, file: FileEntry, blobs: Mapping[Digest, object]
) -> Iterator[tuple[Digest, Affected]]:
    for span in file.spans:
        if span.blob in blobs:
            names = tuple(tensor.name for tensor in span.tensors)
            yield span.blob, Affected(str(resolved), file.path, names)


def _joined(affected: Iterable[Affected]) -> tuple[Affected, ...]:
    """Return one value per file, with all its tensors."""
    tensors: dict[tuple[str, str], dict[str, None]] = {}
    for one in affected:
        tensors.setdefault((one.ref, one.file), {}).update(dict.fromkeys(one.tensors))
    return tuple(Affected(ref, file, tuple(names)) for (ref, file), names in tensors.items())


# --- a part of the frames


def part(digests: Iterable[Digest], number: int, of: int) -> set[Digest]:
    """Return the frames of part ``number`` of ``of``, from 1: by name, so that all parts are all."""
    top = 1 << 8 * DIGEST_SIZE
    return {digest for digest in digests if int(digest, 16) * of // top == number - 1}


def strange_files(frames: Frames, root: Path) -> Iterator[Finding]:
    """Yield a note for every file in blobs/ that no reader would find."""
    for path, what in frames.unknown.items():
        yield Finding("leftover", str(path.relative_to(root)), what, serious=False)


def too_deep(frames: Frames) -> Iterator[Finding]:
    """Yield a note for every frame that is deeper than mstore writes any."""
    for digest in frames.too_deep():
        what = f"is more than {DEPTH} bases deep"
        yield Finding("blob", f"{META}/blobs/{digest[:2]}/{digest}", what, serious=False)


def report_to(progress: Progress, stage: str, total: int) -> Callable[[int], None]:
    """Return what counts bytes up to ``total`` and tells ``progress``."""
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        progress(stage, min(done, total), total)

    return count

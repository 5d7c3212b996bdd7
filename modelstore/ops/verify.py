"""Verify: every byte of a version is decoded, and every digest made again.

What is found is collected, not raised, so that one damaged blob does not hide another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelstore import disk
from modelstore import manifest as manifests
from modelstore.errors import IntegrityError, NotFoundError, StoreError
from modelstore.hashing import FileHasher, digest_of
from modelstore.manifest import BlobSpan, FileEntry, Manifest
from modelstore.ops import present, working
from modelstore.ops.absent import Presence
from modelstore.ops.resolve import Resolved
from modelstore.progress import Progress, silent
from modelstore.reading import read_file
from modelstore.store import MANIFEST, Store


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was committed.

    Attributes:
        file: its path within the version; "manifest.json" for the manifest.
        tensors: the tensors that are lost with it, () where it is not known or none.
        what: one sentence.
        directory: the checked-out directory it was found in; None for the store itself.
    """

    file: str
    tensors: tuple[str, ...]
    what: str
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """What verifying a version found.

    Attributes:
        resolved: the version.
        files, blobs: how many were checked.
        size: bytes that were decoded.
        directories: where it is checked out, which was checked as well.
        problems: what is wrong; () for nothing.
        held_by: a directory that holds what the store has lost of it, None for none.
    """

    resolved: Resolved
    files: int
    blobs: int
    size: int
    directories: tuple[Path, ...]
    problems: tuple[Problem, ...]
    held_by: Path | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(store: Store, resolved: Resolved, progress: Progress = silent) -> Verified:
    """Check every byte of a version: its manifest, its blobs, its files, and where it is checked out.

    Raises:
        NotFoundError: it is registered, but its content never was here.
        NewerFormatError: it was written by a newer mstore.
    """
    present.require(store, resolved, progress)
    try:
        manifest = store.manifest(resolved.model, resolved.entry)
    except (IntegrityError, NotFoundError) as error:
        if resolved.id is None:
            raise
        return Verified(resolved, 0, 0, 0, (), (Problem(MANIFEST, (), error.message),))
    problems = list(_manifest_problems(store, resolved, manifest))
    done = 0
    for file in manifest.files:
        problems += _file_problems(store, file, progress, done, manifest.size)
        done += file.size
    directories = _directories(store, resolved)
    for directory in directories:
        problems += _directory_problems(store, directory, manifest)
    return Verified(
        resolved=resolved,
        files=len(manifest.files),
        blobs=len(manifest.blobs()),
        size=manifest.size,
        directories=tuple(directories),
        problems=tuple(problems),
        held_by=_held_by(store, resolved) if problems else None,
    )


def _held_by(store: Store, resolved: Resolved) -> Path | None:
    absent = Presence(store).absent(resolved)
    return absent.directory if absent is not None else None


def active_versions(store: Store) -> list[Resolved]:
    """Return the ACTIVE version of every model that has one; it may be one without content."""
    found = []
    for model in store.models():
        state = store.state(model)
        entry = state.entry(state.active)
        if entry is not None:
            found.append(Resolved(model, entry))
    return found


def _manifest_problems(store: Store, resolved: Resolved, manifest: Manifest) -> Iterator[Problem]:
    if digest_of(manifests.encode(manifest)) != resolved.id:
        yield Problem(MANIFEST, (), "its fingerprints are not those of its files")
    if resolved.id is not None and not store.blobs.is_sound(resolved.id):
        lost = "is damaged in" if resolved.id in store.blobs else "is not in"
        yield Problem(MANIFEST, (), f"it {lost} the store; the version's directory has it")
    if manifest.file(MANIFEST) is not None:
        return  # the directory may hold the version's own file of that name
    directory = store.version_dir(resolved.model, resolved.entry.version)
    try:
        published = read_file(directory / MANIFEST)
    except FileNotFoundError:
        yield Problem(MANIFEST, (), "it is missing", directory)
        return
    except OSError as error:
        raise disk.explain(error, directory / MANIFEST, "read") from error
    if digest_of(published) != resolved.id:
        yield Problem(MANIFEST, (), "it is not what was committed", directory)


def _file_problems(
    store: Store, file: FileEntry, progress: Progress, before: int, total: int
) -> list[Problem]:
    """Decode a file and return what is wrong with it; all blobs that are not here are one problem."""
    hasher = FileHasher(file.size)
    problems = []
    lost: dict[BlobSpan, str] = {}
    done = before
    for span in file.spans:
        size = 0
        try:
            for piece in store.blobs.blocks(span.blob):
                hasher.update(piece)
                size += len(piece)
                progress("verify", done + size, total)
            if size != span.size:
                problems.append(_span_problem(file, span, f"it has {size} bytes, not {span.size}"))
        except NotFoundError as error:
            lost[span] = error.message
        except StoreError as error:  # what cannot be read is found like what is damaged
            if error.exit_code not in _FINDINGS:
                raise
            problems.append(_span_problem(file, span, error.message))
        done += span.size
    if lost:
        problems.append(Problem(file.path, _names(lost), _lost(lost)))
    if not problems and not _matches(hasher, file):
        problems.append(Problem(file.path, _names(file.spans), "its digests are not its bytes'"))
    return problems


def _lost(spans: Mapping[BlobSpan, str]) -> str:
    blobs = {span.blob: message for span, message in spans.items()}
    if len(blobs) == 1:
        return next(iter(blobs.values()))
    return f"{len(blobs)} blobs, or what they are built on, are not in the store"


_FINDINGS = {StoreError.exit_code, IntegrityError.exit_code}


def _matches(hasher: FileHasher, file: FileEntry) -> bool:
    return (hasher.blake3, hasher.sha256, hasher.git_sha1) == (
        file.blake3,
        file.sha256,
        file.git_sha1,
    )


def _span_problem(file: FileEntry, span: BlobSpan, what: str) -> Problem:
    return Problem(file.path, _names([span]), what)


def _names(spans: Iterable[BlobSpan]) -> tuple[str, ...]:
    return tuple(tensor.name for span in spans for tensor in span.tensors)


def _directories(store: Store, resolved: Resolved) -> list[Path]:
    """Return the directories that hold this version by their records."""
    return [c.path for c in working.checkouts(store) if c.id == resolved.id]


def _directory_problems(store: Store, directory: Path, manifest: Manifest) -> Iterator[Problem]:
    """Hash every file of a checkout; what its record says of times is not believed."""
    found = working.compare(directory, manifest, None)
    for path in found.modified:
        yield Problem(path, (), "it is not what was committed", directory)
    for path in found.missing:
        yield Problem(path, (), "it is missing", directory)

"""Mending a store: what fsck found is put right where that can be done, and nothing is thrown away.

Registries are made again from what is left of them, lost blobs come back from the trash and from
checked-out files, small files are generated anew. Damaged originals are kept in quarantine/. A
crash at any step leaves a store that the next `--repair` mends as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from modelstore import disk
from modelstore.errors import (
    IntegrityError,
    NewerFormatError,
    NotFoundError,
    StoreError,
)
from modelstore.hashing import Digest, parse_digest
from modelstore.locks import gc_lock, locked
from modelstore.manifest import Manifest
from modelstore.ops import card, mend_frames
from modelstore.ops.findings import Checked, Finding, in_order
from modelstore.ops.fsck import Level, Subset, fsck
from modelstore.ops.fsck_registry import Quarantine, mend_registry
from modelstore.ops.fsck_small import mend_settings
from modelstore.ops.mend_lost import mend_lost
from modelstore.ops.resolve import Resolved
from modelstore.progress import Progress, silent
from modelstore.store import MANIFEST, Store


def repair(
    store: Store,
    level: Level = Level.DEFAULT,
    subset: Subset | None = None,
    progress: Progress = silent,
    more: Sequence[mend_frames.Place] = (),
) -> Checked:
    """Check a store as `fsck` does, and put right what can be put right.

    Args:
        more: further places where lost blobs are looked for, as `mend_remote.from_remote`.

    Returns:
        what there is to say now: what was mended says how; the other problems stay.

    Raises:
        LockTimeoutError: a gc or a repack is running.
        DiskFullError: no room for what would come back.
    """
    store.prepare()
    with locked(gc_lock(store.meta), timeout=store.lock_timeout):
        before = fsck(store, level, subset, progress)
        if not any(one.serious or one.kind == "registry" for one in before.findings):
            return before
        mend_settings(store)
        _mend_registries(store)
        _mend_blobs(store, before, more)
        mend_lost(store)  # after the blobs that its versions may share
        _mend_small_files(store, before)
        after = fsck(store)
    return _difference(before, after)


def _mend_registries(store: Store) -> None:
    for model in store.models():
        with suppress(IntegrityError, NotFoundError, NewerFormatError):  # fsck says so again
            mend_registry(store, model)


# --- blobs


def _mend_blobs(store: Store, found: Checked, more: Sequence[mend_frames.Place]) -> None:
    """Bring lost and damaged blobs back: manifests first, which tell where the others lie."""
    causes = _causes(found)
    present = [digest for digest in causes if digest in store.blobs]
    mend_frames.quarantine(store, [digest for digest in present if _is_damaged(store, digest)])
    entries = _entries(store)
    manifests = {one.id for one in entries if one.id is not None}
    lost = {digest for digest in manifests if not store.blobs.is_sound(digest)}
    if lost:
        mend_frames.bring_back(store, lost, mend_frames.manifest_spots(store, entries), more)
    versions = _versions(store, entries)
    for digests in (set(causes), _unreadable(store, versions, causes)):
        wanted = {digest for digest in digests if not store.blobs.is_sound(digest)}
        if wanted:
            spots = mend_frames.find_spots(store, versions, wanted)
            mend_frames.bring_back(store, wanted, spots, more)


def _causes(found: Checked) -> list[Digest]:
    causes = []
    for one in found.problems:
        with suppress(ValueError):
            if one.kind == "blob":
                causes.append(parse_digest(one.name))
    return causes


def _is_damaged(store: Store, digest: Digest) -> bool:
    """Tell whether a frame itself is damaged, whatever has become of what it is built on."""
    try:
        store.blobs.check(digest)
        built_on = store.blobs.header(digest).built_on
    except IntegrityError:
        return True
    except StoreError:
        return False  # gone by now, or of a newer mstore
    if not all(map(store.blobs.is_sound, built_on)):
        return False
    try:
        for _ in store.blobs.blocks(digest):
            pass
    except IntegrityError:
        return True  # not what it is named by, or not less deep than its base
    return False


def _entries(store: Store) -> list[Resolved]:
    found = []
    for model in store.models():
        with suppress(IntegrityError, NotFoundError, NewerFormatError):
            found += [Resolved(model, entry) for entry in store.state(model).entries()]
    return found


def _versions(store: Store, entries: Iterable[Resolved]) -> list[tuple[Resolved, Manifest]]:
    found = []
    for one in entries:
        if one.id is not None:
            with suppress(IntegrityError, NotFoundError, NewerFormatError):
                found.append((one, store.manifest(one.model, one.entry)))
    return found


def _unreadable(
    store: Store, versions: Iterable[tuple[Resolved, Manifest]], causes: list[Digest]
) -> set[Digest]:
    """Return the blobs of versions that still cannot be read, if anything was wrong with any."""
    if not causes:
        return set()
    named = {digest for _, manifest in versions for digest in manifest.blobs()}
    return {digest for digest in named if not store.blobs.is_sound(digest)}


# --- small files


def _mend_small_files(store: Store, found: Checked) -> None:
    """Write manifest.json and model_info.json anew where they are missing or damaged."""
    wrong = {one.name for one in found.problems if one.kind == "file"}
    for resolved, manifest in _versions(store, _entries(store)) if wrong else ():
        home = store.version_dir(resolved.model, resolved.entry.version)
        for name in (MANIFEST, card.MODEL_INFO):
            if f"{resolved.model}/{resolved.entry.version}/{name}" in wrong:
                data = card.generated(store, resolved, manifest).get(name)
                if data is not None:
                    _put(store, home / name, data)


def _put(store: Store, path: Path, data: bytes) -> None:
    """Make a small file hold ``data``, and keep what it held instead."""
    disk.make_dir(path.parent)
    if path.exists():
        Quarantine(store.meta).keep(path, f"{path.parent.name}-{path.name}")
    disk.replace(path, data)


# --- what came of it


def _difference(before: Checked, after: Checked) -> Checked:
    """Return what is still so, and what was and is no longer."""
    left = {(one.kind, one.name) for one in after.findings}
    kept = [one for one in before.findings if one.kind == "file" and ":" in one.name]
    gone = [
        one.mended_by(_how(one, after))
        for one in before.findings
        if (one.kind, one.name) not in left and one not in kept and one.kind != "unneeded"
    ]
    return replace(before, findings=in_order([*gone, *kept, *after.findings]))


def _how(finding: Finding, after: Checked) -> str:
    if finding.kind == "blob":
        unneeded = not finding.affected
        return "moved to quarantine/" if unneeded else "brought back"
    return "written anew"

"""Undelete: a removed version comes back as it was: number, id, entry, blobs and directory.

Its blobs are in the store until a gc has moved them to the trash, and there until that is purged.
Blobs and directory are back, durably, before the registry's record makes it a version again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from modelstore import disk
from modelstore.blobs.trash import Trash, directories
from modelstore.errors import AmbiguousError, ConflictError, NotFoundError
from modelstore.hashing import Digest, digest_of
from modelstore.manifest import Manifest
from modelstore.names import ModelName, parse_ref
from modelstore.ops import card
from modelstore.ops.gone import removed_entry
from modelstore.ops.resolve import NOWHERE, Context, Resolved, resolve, said_model
from modelstore.reading import read_file
from modelstore.state import Change, Entry, State
from modelstore.store import MANIFEST, Store


def resolve_removed(store: Store, text: str, context: Context = NOWHERE) -> Resolved:
    """Return the removed version that ``text``, a number or the beginning of an id, means.

    Raises:
        BadNameError: ``text`` is not a ref.
        ConflictError: that version was not removed.
        NotFoundError: there is no such version, removed or not.
        AmbiguousError: several models have removed one, and nothing says which is meant.
    """
    ref = parse_ref(text)
    only = said_model(store, ref, context)
    models = store.models() if only is None else [only]
    entries = {model: removed_entry(store.state(model), ref.base) for model in models}
    found = [Resolved(model, entry) for model, entry in entries.items() if entry is not None]
    if not found or ref.steps:
        resolved = resolve(store, text, context)
        raise ConflictError(f"{resolved} is not removed", f"run: mstore show {resolved}")
    if len(found) > 1:
        listed = ", ".join(map(str, found))
        raise AmbiguousError(f"{text!r} could be {listed}", f"say: mstore undelete {found[0]}")
    return found[0]


@dataclass(frozen=True, slots=True)
class Undeleted:
    """A version that is back.

    Attributes:
        resolved: the version.
        blobs: how many came back from the trash.
        directories: the directories that came back from there, with whatever was in them.
    """

    resolved: Resolved
    blobs: int
    directories: tuple[Path, ...]


def undelete(store: Store, resolved: Resolved, *, why: str = "") -> Undeleted:
    """Bring back a version that was removed.

    Args:
        resolved: as `resolve_removed` returns it.

    Raises:
        ConflictError: it is not removed.
        NotFoundError: some of its blobs were purged, so it is gone.
    """
    version = str(resolved.entry.version)
    done = Undeleted(resolved, 0, ())

    def decide(state: State) -> Change:
        nonlocal done
        entry = state.removed_entry(version)
        if entry is None:
            raise ConflictError(f"{resolved} is not removed", f"run: mstore show {resolved}")
        blobs = 0
        back: list[Path] = []
        if entry.id is not None:
            blobs, manifest = _blobs_back(store, resolved, entry.id)
            back = _directories_back(store, resolved.model, entry)
            card.restore(store, Resolved(resolved.model, entry), manifest, force=False)
        done = replace(done, blobs=blobs, directories=tuple(back))
        return Change(
            "undelete", versions={version: entry.values}, removed={version: None}, why=why
        )

    store.change(resolved.model, decide)
    return done


def _blobs_back(store: Store, resolved: Resolved, name: Digest) -> tuple[int, Manifest]:
    """See to it that all blobs of a version are in the store; return how many came back."""
    trash = store.blobs.trash()
    before = {item.digest for item in trash.content()}
    _back(trash, resolved, [name])
    manifest = store.manifest(resolved.model, resolved.entry)
    _back(trash, resolved, sorted(manifest.blobs()))
    trash.sync()
    after = {item.digest for item in trash.content()}
    return len(before - after), manifest


def _back(trash: Trash, resolved: Resolved, blobs: list[Digest]) -> None:
    for digest in blobs:
        if not trash.give_back(digest):
            trash.sync()
            raise NotFoundError(
                f"{resolved} is gone: it was removed, and blob '{digest}' of it purged since",
                f"look for another version: mstore log {resolved.model}",
            )


def _directories_back(store: Store, model: ModelName, entry: Entry) -> list[Path]:
    """Put the version's directories back that are in the trash; what is there stays."""
    found = []
    usual = store.version_dir(model, entry.version)
    content = store.blobs.trash().content()
    for name in dict.fromkeys([usual.name, Path(entry.text("path")).name]):
        target = usual.with_name(name)
        if not name or target.exists():
            continue
        for path in directories(content, f"{model}@{name}"):
            if name != usual.name or _is_of(path, entry):
                disk.make_dir(target.parent)
                disk.move_new(path, target)
                disk.sync_dir(path.parent)
                found.append(target)
                break
    return found


def _is_of(directory: Path, entry: Entry) -> bool:
    """Tell whether a directory is that of the version: a crash may have left another of its name."""
    try:
        return digest_of(read_file(directory / MANIFEST)) == entry.id
    except OSError:
        return False

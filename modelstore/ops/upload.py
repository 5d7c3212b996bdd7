"""Upload: some files of a version are exchanged, and that is the next version.

What others upload to a store that is served comes file by file. All other files are those of the
version that it is put on top of: they are neither read nor written, as a manifest names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from modelstore import manifest
from modelstore.blobs import remove_abandoned
from modelstore.errors import ConflictError, UsageError
from modelstore.manifest import FileEntry
from modelstore.names import ModelName, collision
from modelstore.ops import present
from modelstore.ops.bases import Bases
from modelstore.ops.draft import CommitOptions, draft_of, files_of, same_content
from modelstore.ops.heal import mend_manifest
from modelstore.ops.origin import Info, state_of
from modelstore.ops.publish import Pointer, Publication
from modelstore.ops.resolve import Resolved
from modelstore.ops.room import require_room, require_writable
from modelstore.ops.scan import Scanned, scan
from modelstore.ops.stage import stage
from modelstore.ops.tree import Found
from modelstore.progress import Progress, silent
from modelstore.store import Store


@dataclass(frozen=True, slots=True)
class Changed:
    """The files of a version that is made from another one.

    Attributes:
        parent: what it is put on top of; None for the first version.
        pointer: ACTIVE or an alias, which means the parent.
        kept: those that the store has, by their new paths.
        added: those that are to be read.
    """

    parent: Resolved | None
    pointer: Pointer
    kept: Sequence[FileEntry]
    added: Sequence[Found]


def upload(
    store: Store,
    model: ModelName,
    changed: Changed,
    options: CommitOptions,
    progress: Progress = silent,
) -> Resolved:
    """Make the next version of ``model``, let the pointer move on to it, and return it.

    Where it would be equal to its parent, that is returned and nothing is done.

    Args:
        changed: all files that it has.
        options: what it says; of the options that tell where files lie, none applies.

    Raises:
        UsageError: it has no files.
        ConflictError: two of them cannot lie side by side.
        OutdatedPointerError: the pointer was moved meanwhile; nothing was changed.
        DiskFullError: no room; nothing was changed.
    """
    _check_paths(changed)
    state = state_of(store, model)
    changed.pointer.check(model, state)  # again when it is published: this only saves the work
    parents = [changed.parent] if changed.parent is not None else []
    for each in parents:
        mend_manifest(store, each)
        present.require(store, each, progress)  # a lazy clone has its manifest only
    before = files_of(store, parents)
    scanned = [_with_mode(item, before) for item in scan(changed.added, progress, before)]
    entries = sorted(
        [*changed.kept, *(item.entry for item in scanned)], key=lambda entry: entry.path
    )
    draft = draft_of(Info({}), state, parents, entries, options)
    if same_content(store, model, parents, draft) is not None:
        return parents[0]
    require_writable(store)
    require_room(store, (span.blob for item in scanned for span in item.entry.spans))
    store.prepare()
    remove_abandoned(store.meta)
    with store.blobs.transaction() as transaction:
        staged = stage(transaction, scanned, Bases(store, model, parents), progress)
        digest = transaction.add_bytes(manifest.encode(draft))
        transaction.publish()
    published = Publication(
        model=model,
        manifest=draft,
        id=digest,
        staged=replace(staged, needed=staged.needed | draft.blobs()),
        parents=tuple(parents),
        version="",
        in_place=False,
        stale={},
        major=options.major,
        activate=options.activate,
        message=options.message,
        note=options.note,
        description=options.description,
        author=options.author,
        extra=options.extra,
        op=options.op,
        pointer=changed.pointer,
    ).publish(store)
    return Resolved(model, published.entry)


def _check_paths(changed: Changed) -> None:
    paths = [*(entry.path for entry in changed.kept), *(found.path for found in changed.added)]
    if not paths:
        raise UsageError(
            "a version has at least one file", "keep one, or remove the version itself"
        )
    found = collision(paths)
    if found:
        raise ConflictError(
            f"{found[0]!r} and {found[1]!r} cannot lie side by side on some systems",
            "rename one of them",
        )


def _with_mode(item: Scanned, before: Mapping[str, FileEntry]) -> Scanned:
    """Return a file with the mode that it had before: uploads do not tell it."""
    old = before.get(item.entry.path)
    executable = old is not None and old.executable
    return replace(item, entry=replace(item.entry, executable=executable))

"""Commit: a directory or a file becomes the next version of a model.

Every step that can fail comes before the registry changes; what a failed commit leaves is staging
that dies with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from modelstore import manifest
from modelstore.blobs import remove_abandoned
from modelstore.errors import NotFoundError
from modelstore.hashing import Digest
from modelstore.manifest import Manifest
from modelstore.names import ModelName, parse_version
from modelstore.ops.bases import Bases
from modelstore.ops.draft import (
    CommitOptions,
    draft_of,
    files_of,
    same_content,
    schema_warning,
)
from modelstore.ops.heal import heal, mend_manifest
from modelstore.ops.origin import Info, Place, content, place_of, state_of
from modelstore.ops.pointer import set_active
from modelstore.ops.publish import Publication, Published
from modelstore.ops.resolve import Context, Resolved, resolve
from modelstore.ops.room import require_room, require_writable
from modelstore.ops.scan import Scanned, check_one_state, require_digests, scan
from modelstore.ops.settle import settle
from modelstore.ops.stage import stage
from modelstore.ops.tree import Tree
from modelstore.progress import Progress, silent
from modelstore.state import State
from modelstore.store import Store

if TYPE_CHECKING:
    from modelstore.ops.products import Products


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did.

    Attributes:
        model, version, id: the version; the parent's where there was nothing to commit.
        created: False where the content equals the parent's and nothing was done.
        parent: the first parent, as a full ref, or "".
        active: whether it is ACTIVE now.
        files, tensors: how many it has.
        size: bytes of its files.
        brought_back: blobs of the version that the store had lost and now has again.
        stored: bytes it added to the store.
        new_blobs: blobs it added, the manifest not counted.
        skipped: paths that a rule left out.
        warnings: sentences about what was odd.
    """

    model: ModelName
    version: str
    id: Digest
    created: bool
    parent: str
    active: bool
    files: int
    tensors: int
    size: int
    brought_back: int
    stored: int
    new_blobs: int
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]


def commit(
    store: Store,
    path: Path,
    model: ModelName,
    options: CommitOptions,
    progress: Progress = silent,
) -> Committed:
    """Make the files at ``path`` the next version of ``model``.

    A version directory of the model that no registry knows yet is taken as what its name says.

    Where there is nothing to commit, what the store has lost of the version is brought back.

    Raises:
        NotFoundError: nothing at ``path``, or a parent or an adapter that does not exist.
        UsageError: the adapter is of a kind that cannot be followed.
        ConflictError: the version exists, or a file changed while it was read.
        DiskFullError: no room; nothing was changed.
        IntegrityError: a file does not hold what it is known to hold.
    """
    if options.version:
        parse_version(options.version)  # a mistyped one is told before the files are read
    state = state_of(store, model)
    place = place_of(store, path, model, options.version)
    find = partial(content, store, path, place, follow_symlinks=options.follow_symlinks)
    tree = find()
    parents = _parents(store, model, state, place, options)
    mended = sum(mend_manifest(store, parent) for parent in parents)
    scanned = scan(tree.files, progress, files_of(store, parents))
    require_digests(scanned, options.expected)
    products = _products(options.adapter, scanned)
    info = Info.of(path)
    draft = draft_of(info, state, parents, [item.entry for item in scanned], options)
    warnings = (*_warnings(scanned), *_adapter_warning(options.adapter, products))
    outcome = _Outcome(draft, tree, warnings, tuple(parents))
    needed = options.allow_empty or place.adoptable
    same = None if needed else same_content(store, model, parents, draft)
    if same is not None:
        mended += heal(store, same, path, progress)
        store.bring_up(same.model)
        return outcome.nothing(store, same, options, mended)
    outcome = replace(
        outcome, warnings=(*outcome.warnings, *schema_warning(store, parents, draft, options))
    )
    require_writable(store)
    require_room(store, (span.blob for item in scanned for span in item.entry.spans))
    store.prepare()
    remove_abandoned(store.meta)
    with store.blobs.transaction() as transaction:
        bases = Bases(store, model, parents)
        staged = stage(transaction, scanned, bases, progress, products)
        check_one_state(scanned, lambda: find().files)
        digest = transaction.add_bytes(manifest.encode(draft))
        transaction.publish()
    published = Publication(
        model=model,
        manifest=draft,
        id=digest,
        staged=staged,
        parents=tuple(parents),
        version=place.adoptable or options.version,
        in_place=bool(place.adoptable),
        stale=place.own if place.adoptable else {},
        major=options.major,
        activate=options.activate,
        message=options.message,
        note=options.note,
        description=options.description or info.text("description"),
        author=options.author,
        extra=options.extra,
        op=options.op,
    ).publish(store)
    settle(store, path, published, scanned, place, move=options.move)
    return outcome.created(published, mended)


def _products(directory: Path | None, scanned: Sequence[Scanned]) -> Products | None:
    if directory is None:
        return None
    from modelstore.ops.products import Products  # loads numpy

    return Products(directory, scanned)


def _adapter_warning(directory: Path | None, products: Products | None) -> Iterator[str]:
    if products is not None and products.unknown:
        count, first = len(products.unknown), products.unknown[0]
        yield f"{count} of the weights that '{directory}' changes are not in the files, as '{first}'"


def _parents(
    store: Store, model: ModelName, state: State, place: Place, options: CommitOptions
) -> list[Resolved]:
    if options.parents is not None:
        return [resolve(store, text, Context(model=model)) for text in options.parents]
    if place.checkout is not None:
        return [place.checkout]
    newest = state.newest_stored()
    return [Resolved(model, newest)] if newest else []


def _warnings(scanned: Sequence[Scanned]) -> tuple[str, ...]:
    return tuple(item.warning for item in scanned if item.warning)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What there is to report, whichever way the commit ends."""

    draft: Manifest
    tree: Tree
    warnings: tuple[str, ...]
    parents: tuple[Resolved, ...]

    def nothing(
        self, store: Store, same: Resolved, options: CommitOptions, brought_back: int
    ) -> Committed:
        """Report that version ``same`` has this content, after making it ACTIVE if that is asked."""
        if same.id is None:
            raise NotFoundError(f"{same} has no content", "run: mstore adopt")
        if options.activate:
            set_active(store, same, why=options.message)
        version = str(same.entry.version)
        warnings = list(self.warnings)
        if brought_back:
            blobs = "1 blob" if brought_back == 1 else f"{brought_back} blobs"
            warnings.append(f"brought back {blobs} of {same} that the store had lost")
        unused = _unused(options, version)
        if unused:
            warnings.append(
                f"nothing was made of {', '.join(unused)}; "
                "make a version of the same files with --allow-empty"
            )
        return replace(
            self._report(same.model, version, same.id, brought_back),
            active=store.state(same.model).active == version,
            warnings=tuple(warnings),
        )

    def created(self, published: Published, brought_back: int) -> Committed:
        """Report the version that was made."""
        version = str(published.entry.version)
        return replace(
            self._report(published.model, version, published.id, brought_back),
            created=True,
            active=published.active,
            stored=published.stored,
            new_blobs=published.new_blobs,
        )

    def _report(
        self, model: ModelName, version: str, digest: Digest, brought_back: int
    ) -> Committed:
        return Committed(
            model=model,
            version=version,
            id=digest,
            created=False,
            parent=str(self.parents[0]) if self.parents else "",
            active=False,
            files=len(self.draft.files),
            tensors=sum(1 for _ in self.draft.tensors()),
            size=self.draft.size,
            brought_back=brought_back,
            stored=0,
            new_blobs=0,
            skipped=self.tree.skipped,
            warnings=self.warnings,
        )


def _unused(options: CommitOptions, version: str) -> list[str]:
    """Return the options that say something of a new version, where it stays with ``version``."""
    given = {
        "--version": options.version not in ("", version),
        "--major": options.major,
        "--metric": options.metrics,
        "--param": options.parameters,
        "--note": options.note,
        "--description": options.description,
        "--base-model": options.base_model,
        "--move": options.move,
    }
    return [name for name, value in given.items() if value]


__all__ = ["CommitOptions", "Committed", "commit"]

"""torch.distributed.checkpoint over a store: FSDP and multi-node jobs save versions directly.

    writer = StoreWriter("tuned_models", "llama_8b")
    dcp.save({"model": model_state, "optim": optim_state}, storage_writer=writer)
    dcp.load(state, storage_reader=StoreReader("tuned_models", writer.version))

Every rank encodes its own shards and makes them durable in the store, which all of them see (one
machine, or a shared file system). The coordinator then commits the version. A rank that fails, or
is killed, leaves nothing but blobs that the next gc takes away.

A version that is no such checkpoint, a model as transformers saves it, can be read the same way:
its tensors are the items, by their names, and each rank reads the rows that it needs.

What is loaded is never unpickled freely; see `modelstore.integrations.shards.require_plain`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import (
    LoadItemType,
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    SavePlanner,
    WriteItemType,
)
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from modelstore import manifest
from modelstore.blobs.parallel import in_order
from modelstore.errors import ConflictError, UsageError
from modelstore.hashing import Digest
from modelstore.integrations.checkpoint_index import INDEX, Place, encode
from modelstore.integrations.opening import StoreLike, opened
from modelstore.integrations.shards import Part, PartWriter, require_plain
from modelstore.integrations.stored import Rows, StoredCheckpoint
from modelstore.manifest import Manifest
from modelstore.names import parse_model
from modelstore.ops.bases import Bases
from modelstore.ops.commit import CommitOptions
from modelstore.ops.origin import state_of
from modelstore.ops.pointer import set_active
from modelstore.ops.publish import Publication
from modelstore.ops.resolve import Context, Resolved, resolve
from modelstore.ops.room import require_writable
from modelstore.ops.stage import Staged
from modelstore.store import now

_NOT_HERE = ("adapter", "allow_empty", "follow_symlinks", "move")
"""Options of a commit of files that mean nothing where there are none."""


class StoreWriter(StorageWriter):
    """Saves the state of a distributed job as the next version of a model.

    The ``checkpoint_id`` of a save, if there is one, is the message of its version.

    Args:
        store: the same on every rank.
        model: the line that the version belongs to; it need not exist.
        message: why, where a save has no ``checkpoint_id``.
        activate: make every saved version ACTIVE.
        options: further fields of `modelstore.ops.commit.CommitOptions`: parents, parameters,
            metrics, base_model, note, ...

    Attributes:
        version: the full ref of the version saved last, on the coordinator; "" elsewhere. The one
            before where nothing had changed.

    Raises:
        UsageError: there is no such option.
    """

    def __init__(
        self,
        store: StoreLike,
        model: str,
        message: str = "",
        *,
        activate: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self._store = opened(store)
        self._model = parse_model(model)
        self._options = _options(message, activate=activate, **options)
        self._message = message
        self.version = ""

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin a save that is called ``checkpoint_id``; torch calls this only if it has one."""
        self._message = self._options.message if checkpoint_id is None else str(checkpoint_id)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Tell that any text can be the message of a version."""
        return isinstance(checkpoint_id, str)

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Refuse what cannot become one version before anything is written.

        Raises:
            StoreError: the store cannot be written to.
            UsageError: the ranks do not coordinate.
        """
        if not kwargs.get("use_collectives", True):
            raise UsageError("a version is made by all ranks together", "leave out use_collectives")
        require_writable(self._store)
        self._store.prepare()
        self.version = ""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Return ``plan`` as it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Tell every rank its number, after which its files are called."""
        return [replace(plan, storage_data=rank) for rank, plan in enumerate(plans)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's items into the store; when it returns they are durable.

        Raises:
            UsageError: one of them cannot be saved.
            DiskFullError: there is no room.
        """
        tensors = [item for item in plan.items if item.type != WriteItemType.BYTE_IO]
        others = [item for item in plan.items if item.type == WriteItemType.BYTE_IO]
        places: dict[MetadataIndex, Place] = {}
        with self._store.blobs.transaction() as transaction:
            writer = PartWriter(transaction, Bases(self._store, self._model, self._parents()))
            if tensors:
                path = f"rank-{plan.storage_data:05}.safetensors"
                places |= writer.write_tensors(path, tensors, planner)
            if others:
                path = f"rank-{plan.storage_data:05}.items"
                places |= writer.write_items(path, others, planner)
            transaction.publish()
        part = writer.part()
        # pickled together, so that each rank sends its one part once
        done = [WriteResult(index, 0, (part, place)) for index, place in places.items()]
        future: Future[list[WriteResult]] = Future()
        future.set_result(done)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Make the version of what all ranks wrote; only the coordinator is asked to.

        Raises:
            ConflictError: something was taken out of the store meanwhile.
            UsageError: the metadata cannot be written down.
        """
        parents = self._parents()
        places = {one.index: one.storage_data[1] for rank in results for one in rank}
        parts = [rank[0].storage_data[0] for rank in results if rank]
        metadata.storage_data = places
        with self._store.blobs.transaction() as transaction:
            writer = PartWriter(transaction, Bases(self._store, self._model, ()))
            writer.write_file(INDEX, encode(metadata, places))
            parts.append(writer.part())
            draft = self._draft(parts, parents)
            if self._is_saved(draft, parents):
                self.version = str(parents[0])
                return
            digest = transaction.add_bytes(manifest.encode(draft))
            transaction.publish()
        options = self._options
        published = Publication(
            model=self._model,
            manifest=draft,
            id=digest,
            staged=_together(parts),
            parents=tuple(parents),
            version=options.version,
            in_place=False,
            stale={},
            major=options.major,
            activate=options.activate,
            message=self._message,
            note=options.note,
            description=options.description,
            author=options.author,
            extra=options.extra,
            op=options.op,
        ).publish(self._store)
        self.version = str(Resolved(published.model, published.entry))
        self._message = options.message

    def _parents(self) -> list[Resolved]:
        if self._options.parents is not None:
            context = Context(model=self._model)
            return [resolve(self._store, text, context) for text in self._options.parents]
        newest = state_of(self._store, self._model).newest_stored()
        return [Resolved(self._model, newest)] if newest else []

    def _draft(self, parts: Sequence[Part], parents: Sequence[Resolved]) -> Manifest:
        options = self._options
        files = sorted((file for part in parts for file in part.files), key=lambda file: file.path)
        size = sum(file.size for file in files if file.format == "safetensors")
        inherited = parents[0].entry.text("base_model") if parents else ""
        return Manifest(
            files=tuple(files),
            parents=tuple(parent.id for parent in parents if parent.id is not None),
            message=self._message,
            author=options.author,
            created_at=options.created_at or now(),
            base_model=options.base_model or inherited,
            parameters=manifest.to_scalars(options.parameters),
            metrics=manifest.to_scalars({"model_size": size, **options.metrics}),
            data=tuple(manifest.to_scalars(row) for row in options.data),
            environment=manifest.to_scalars(options.environment),
            curve=tuple(options.curve),
        )

    def _is_saved(self, draft: Manifest, parents: Sequence[Resolved]) -> bool:
        """Tell whether the one parent is of this model and has this content already."""
        if len(parents) != 1 or parents[0].model != self._model:
            return False
        parent = parents[0]
        if self._store.manifest(parent.model, parent.entry).content() != draft.content():
            return False
        if self._options.activate:
            set_active(self._store, parent, why=self._message)
        return True


class StoreReader(StorageReader):
    """Loads a version into the state of a distributed job of any number of ranks.

    The ``checkpoint_id`` of a load, if there is one, is the ref to load. Only a ref that cannot
    move (``llama_8b@v1.3``) surely means the same to every rank; that it does is checked.

    Args:
        store: the same on every rank.
        ref: a version that `StoreWriter` saved, or one with tensors in any other files; "" where
            every load has a ``checkpoint_id``.

    Raises:
        NotFoundError: no version has that name.
    """

    def __init__(self, store: StoreLike, ref: str = "") -> None:
        super().__init__()
        self._store = opened(store)
        self._ref = ref
        self._checkpoint: StoredCheckpoint
        if ref:
            self._checkpoint = self._opened()

    def _opened(self) -> StoredCheckpoint:
        return StoredCheckpoint.of(self._store, resolve(self._store, self._ref))

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin a load of ``checkpoint_id``; torch calls this only if it has one."""
        if checkpoint_id is not None:
            self._ref = str(checkpoint_id)
        self._checkpoint = self._opened()

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Tell that any text may be a ref."""
        return isinstance(checkpoint_id, str)

    def read_metadata(self, *args: Any) -> Metadata:
        """Return what the version holds that the ref means now."""
        self._checkpoint = self._opened()
        return self._checkpoint.metadata

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Do nothing: what `read_metadata` returned is still at hand."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Let the coordinator know which version this rank reads."""
        return replace(plan, storage_data=str(self._checkpoint.id))

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Refuse to mix versions.

        Raises:
            ConflictError: the ref means another version to another rank.
        """
        if len({plan.storage_data for plan in plans}) > 1:
            raise ConflictError(
                f"{self._ref!r} moved while the ranks began to read",
                "load a version by its number, as in llama_8b@v1.3",
            )
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read this rank's items, every byte of them verified.

        Raises:
            IntegrityError: a blob is damaged, or the version does not hold what it says.
            UsageError: an item would have to be unpickled.
        """
        wanted: dict[MetadataIndex, list[ReadItem]] = {}
        for item in plan.items:
            if item.type == LoadItemType.BYTE_IO:
                data = self._checkpoint.bytes_of(item.storage_index)
                require_plain(data, item.storage_index.fqn)
                planner.load_bytes(item, io.BytesIO(data))
            else:
                wanted.setdefault(item.storage_index, []).append(item)
        decoded = in_order(self._rows, wanted.items(), self._store.blobs.threads)
        for items, rows in zip(wanted.values(), decoded, strict=True):
            for item in items:
                _fill(planner, item, rows)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def _rows(self, wanted: tuple[MetadataIndex, list[ReadItem]]) -> Rows:
        """Return the rows of a chunk that some items lie in."""
        index, items = wanted
        ranges = [
            (item.storage_offsets[0], item.storage_offsets[0] + item.lengths[0])
            for item in items
            if item.lengths
        ]
        start = min((first for first, _ in ranges), default=0)
        stop = max((last for _, last in ranges), default=0)
        return self._checkpoint.rows(self._checkpoint.chunk(index), start, stop)


def _fill(planner: LoadPlanner, item: ReadItem, rows: Rows) -> None:
    """Copy the box that ``item`` asks for to where the planner wants it."""
    target = planner.resolve_tensor(item).detach()
    part = rows.part(item.storage_offsets, item.lengths)
    if target.size() != part.size():
        raise UsageError(
            f"{item.dest_index.fqn!r} has the shape {tuple(target.size())} here, "
            f"and {tuple(part.size())} in the version"
        )
    target.copy_(part)
    planner.commit_tensor(item, target)


def _together(parts: Sequence[Part]) -> Staged:
    return Staged(
        sum(part.staged.stored for part in parts),
        sum(part.staged.new for part in parts),
        frozenset[Digest]().union(*(part.staged.needed for part in parts)),
    )


def _options(message: str, *, activate: bool, **options: Any) -> CommitOptions:
    for name in _NOT_HERE:
        if name in options:
            raise UsageError(f"StoreWriter: {name} is for a commit of files")
    try:
        return CommitOptions(message=message, activate=activate, **options)
    except TypeError as error:
        raise UsageError(f"StoreWriter: {error}") from error

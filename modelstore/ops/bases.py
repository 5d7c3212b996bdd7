"""Which stored tensors a new one may be a small change of.

Its namesakes, in the versions it was made from and in the one their line began with. Where none of
them will do, what may be the same tensor under another name, and its namesakes in other models:
there a few values are compared before a sample is coded, and a search in vain is given up soon.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from modelstore.blobs import RawSource
from modelstore.errors import NotFoundError, StoreError
from modelstore.hashing import Digest
from modelstore.manifest import BlobSpan, Manifest
from modelstore.names import ModelName
from modelstore.numeric import DType, dtype_named
from modelstore.ops.renames import Catalogue, Named
from modelstore.ops.resolve import Resolved
from modelstore.state import Entry, State
from modelstore.store import Store

if TYPE_CHECKING:
    from modelstore.codecs.base import Bits

_SMALL = 1 << 14  # bytes; less is not worth a search
_LOOKED_AT = 8  # tensors whose values are compared with those of a new one
_OFFERED = 2  # of them, the most alike
_PERHAPS, _SURELY = 0.5, 0.8  # share of values alike; of unrelated weights it is 0.15 to 0.25
_PATIENCE = 16  # searches in vain before they end; a layer that is new has some ten tensors
_OTHER_MODELS = 3
_REMEMBERED = 1 << 10  # sketches of at most 16 KiB


class Bases:
    """The blobs that tensors of a new version may be built on.

    Several threads may ask at once.

    Args:
        model: the line of the new version.
        parents: the versions it was made from; where there are none, the line's newest counts.
        alone: blobs that get no base, as others are built on them and might be less deep.
        nearest: manifests of what is no version and yet nearer than any, as a run's checkpoint.
    """

    def __init__(
        self,
        store: Store,
        model: ModelName,
        parents: Sequence[Resolved],
        *,
        alone: frozenset[Digest] = frozenset(),
        nearest: Sequence[Manifest] = (),
    ) -> None:
        self._store = store
        self._model = model
        self._alone = alone
        parents = parents or _newest(store, model)
        older = (*nearest, *_older(store, parents))
        self._older = [Catalogue(manifest) for manifest in older]
        self._renamed = _Search(store, self._older[:1])
        self._elsewhere: _Search | None = None
        self._lock = threading.Lock()

    def of(self, span: BlobSpan) -> list[Digest]:
        """Return the namesakes of the tensors in ``span``, those of the nearest version first."""
        if span.blob in self._alone:
            return []
        tensors = [Named.of(tensor, span) for tensor in span.tensors]
        found = (n for older in self._older for t in tensors for n in older.namesakes(t))
        digests = dict.fromkeys(named.span.blob for named in found)
        return [digest for digest in digests if digest != span.blob]

    def others(self, span: BlobSpan, source: RawSource) -> Iterator[Digest]:
        """Yield what else ``span``, whose bytes are in ``source``, may be built on."""
        if span.blob in self._alone or not span.tensors or span.size <= _SMALL:
            return
        wanted = Named.of(span.tensors[0], span)
        renamed = list(self._renamed.lookalikes(wanted, source))
        yield from renamed or self._other_models().namesakes(wanted, source)

    def _other_models(self) -> _Search:
        with self._lock:
            if self._elsewhere is None:
                versions = _elsewhere(self._store, self._model)
                self._elsewhere = _Search(self._store, [Catalogue(m) for m in versions])
            return self._elsewhere


class _Search:
    """A place to search for tensors that have values like those of a new one."""

    def __init__(self, store: Store, catalogues: Sequence[Catalogue]) -> None:
        self._store = store
        self._catalogues = catalogues
        self._vain = 0
        self._shift = 0
        self._sketch = lru_cache(maxsize=_REMEMBERED)(self._sketch_of)

    def lookalikes(self, wanted: Named, source: RawSource) -> list[Digest]:
        """Return tensors of other names that are like ``wanted``, the most alike first."""
        found = (n for c in self._catalogues for n in c.lookalikes(wanted, self._shift))
        return self._alike(wanted, source, found)

    def namesakes(self, wanted: Named, source: RawSource) -> list[Digest]:
        """Return tensors of the same name that are like ``wanted``, the most alike first."""
        found = (n for c in self._catalogues for n in c.namesakes(wanted))
        return self._alike(wanted, source, found)

    def _alike(self, wanted: Named, source: RawSource, found: Iterator[Named]) -> list[Digest]:
        if self._vain >= _PATIENCE:
            return []
        rated: dict[Digest, tuple[float, Named]] = {}
        for named in found:
            if named.span.blob != wanted.span.blob and named.span.blob not in rated:
                share = self._likeness(wanted, source, named)
                rated[named.span.blob] = share, named
                if share > _SURELY or len(rated) == _LOOKED_AT:
                    break
        best = sorted(rated.values(), key=lambda pair: -pair[0])[:_OFFERED]
        best = [pair for pair in best if pair[0] > _PERHAPS]
        if best:
            self._shift = wanted.shift_from(best[0][1])
        if rated:
            self._vain = 0 if best else self._vain + 1
        return [named.span.blob for _, named in best]

    def _likeness(self, wanted: Named, source: RawSource, named: Named) -> float:
        """Return the share of like values; 0 where the stored tensor cannot be read."""
        from modelstore.codecs.likeness import likeness, sketch, sketched_range  # loads numpy

        dtype, other = dtype_named(wanted.span.dtype), dtype_named(named.span.dtype)
        # of tensors with different numbers of rows, the rows that both have are compared
        start, stop = sketched_range(
            min(source.size // dtype.width, named.span.size // other.width)
        )
        try:
            stored = self._sketch(named.span.blob, other, start, stop)
        except StoreError:
            return 0.0
        return likeness(sketch(source.read(start * dtype.width, stop * dtype.width), dtype), stored)

    def _sketch_of(self, digest: Digest, dtype: DType, start: int, stop: int) -> Bits:
        from modelstore.codecs.likeness import sketch  # loads numpy

        raw = self._store.blobs.read_range(digest, start * dtype.width, stop * dtype.width)
        return sketch(raw, dtype)


def _newest(store: Store, model: ModelName) -> list[Resolved]:
    try:
        newest = store.state(model).newest_stored()
    except NotFoundError:  # the first version makes the line
        return []
    return [Resolved(model, newest)] if newest else []


def _older(store: Store, parents: Sequence[Resolved]) -> Iterator[Manifest]:
    """Yield the manifests of the parents, and then of the version their line began with.

    One that is lost or damaged is passed over, as a damaged base is.
    """
    roots = [Resolved(p.model, _root(store.state(p.model), p.entry)) for p in parents]
    seen = set()
    for version in (*parents, *roots):
        if version.id in seen:
            continue
        seen.add(version.id)
        with suppress(StoreError):
            yield store.manifest(version.model, version.entry)


def _root(state: State, entry: Entry) -> Entry:
    """Return the version that ``entry`` descends from by first parents; may be 10,000 steps away."""
    versions = state.document["versions"]
    names = {values.get("id"): name for name, values in reversed(versions.items())}
    oldest, values = "", entry.values
    for _ in versions:  # no more steps than that, whatever a registry says
        if not values.get("parents") or values["parents"][0] not in names:
            break
        oldest = names[values["parents"][0]]
        values = versions[oldest]
    return state.entry(oldest) or entry


def _elsewhere(store: Store, model: ModelName) -> Iterator[Manifest]:
    """Yield the manifests of a few other models: of what is ACTIVE there, else of the newest."""
    config = store.config()
    names = [config.get("last_model"), config.get("default_model"), *store.models()]
    others = [ModelName(name) for name in dict.fromkeys(names) if name and name != model]
    for other in others[:_OTHER_MODELS]:
        with suppress(StoreError):
            state = store.state(other)
            entry = state.entry(state.active) if state.active else None
            entry = entry if entry is not None and entry.id else state.newest_stored()
            if entry is not None:
                yield store.manifest(other, entry)

"""Kin: the versions whose tensors a version's tensors may be small changes of.

All versions of the store stand in one order, parents before their children; a version's kin comes
before it there. So bases are settled before what is built on them is encoded anew.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache

from modelstore.errors import IntegrityError, NewerFormatError, NotFoundError
from modelstore.hashing import Digest
from modelstore.manifest import BlobSpan, Manifest
from modelstore.names import ModelName
from modelstore.ops.bases import Bases
from modelstore.ops.renames import Catalogue, Named
from modelstore.ops.resolve import Resolved
from modelstore.store import Store

_MANIFESTS = 32
"""Versions whose tensors are remembered; neighbours in the order share most of their kin."""

_SIBLINGS = 2
_OTHER_LINES = 3


class Kin:
    """The versions of a store that have content, in order, and who is near whom.

    Attributes:
        versions: every manifest once, under the first name it goes by; parents first.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.versions = list(_parents_first(_all_versions(store)))
        self._place = {_id(version): place for place, version in enumerate(self.versions)}
        self._roots: dict[Digest, Resolved] = {}
        self._children: dict[Digest, list[Resolved]] = {}
        self._lines: dict[ModelName, list[Resolved]] = {}
        for version in self.versions:
            self._enter(version)
        self._catalogue = lru_cache(maxsize=_MANIFESTS)(self._read)

    def near(self, version: Resolved, most: int) -> list[Resolved]:
        """Return at most ``most`` versions that come before ``version``, nearest first."""
        place = self._place[_id(version)]
        found: dict[Digest, Resolved] = {}
        for other in self._suggested(version):
            if self._place[_id(other)] < place:
                found.setdefault(_id(other), other)
            if len(found) == most:
                break
        return list(found.values())

    def bases(self, span: BlobSpan, near: Iterable[Resolved]) -> list[Digest]:
        """Return the blobs of the tensors in ``near`` that are named like those in ``span``."""
        tensors = [Named.of(tensor, span) for tensor in span.tensors]
        catalogues = [self._catalogue(_id(version)) for version in near] if tensors else []
        found = (n for c in catalogues for t in tensors for n in c.namesakes(t))
        digests = dict.fromkeys(named.span.blob for named in found)
        return [digest for digest in digests if digest != span.blob]

    def search(self, version: Resolved, near: Sequence[Resolved]) -> Callable[[], Bases]:
        """Return what finds bases of other names for the tensors of ``version``; made if need be."""
        return lru_cache(maxsize=1)(lambda: Bases(self._store, version.model, near[:1]))

    def _enter(self, version: Resolved) -> None:
        parents = [self._of(digest) for digest in version.entry.parents]
        first = parents[0] if parents else None
        self._roots[_id(version)] = version if first is None else self._roots.get(_id(first), first)
        for parent in version.entry.parents:
            self._children.setdefault(parent, []).append(version)
        self._lines.setdefault(version.model, []).append(version)

    def _of(self, digest: Digest) -> Resolved | None:
        place = self._place.get(digest)
        return None if place is None else self.versions[place]

    def _suggested(self, version: Resolved) -> Iterator[Resolved]:
        """Yield the parents, the root, siblings, neighbours in the line, beginnings of others."""
        for digest in version.entry.parents:
            parent = self._of(digest)
            if parent is not None:
                yield parent
        yield self._roots[_id(version)]
        for digest in version.entry.parents[:1]:
            yield from self._before(version, self._children[digest], _SIBLINGS)
        own = self._lines[version.model]
        yield from self._before(version, own, 1)
        yield own[0]
        others = [line[0] for model, line in self._lines.items() if model != version.model]
        yield from self._before(version, others, _OTHER_LINES)

    def _before(self, version: Resolved, others: list[Resolved], most: int) -> list[Resolved]:
        """Return the last ``most`` of ``others`` before ``version``, the last one first."""
        end = bisect_left(others, self._place[_id(version)], key=lambda one: self._place[_id(one)])
        return others[max(0, end - most) : end][::-1]

    def _read(self, digest: Digest) -> Catalogue:
        """Return the tensors of a version; none if it cannot be read."""
        version = self.versions[self._place[digest]]
        manifest = Manifest(())
        with suppress(IntegrityError, NotFoundError, NewerFormatError):
            manifest = self._store.manifest(version.model, version.entry)
        return Catalogue(manifest)


def _id(version: Resolved) -> Digest:
    if version.id is None:
        raise ValueError(f"{version} has no content")
    return version.id


def _all_versions(store: Store) -> dict[Digest, Resolved]:
    found: dict[Digest, Resolved] = {}
    for model in store.models():
        for entry in store.state(model).entries():
            if entry.id is not None:
                found.setdefault(entry.id, Resolved(model, entry))
    return found


def _parents_first(versions: dict[Digest, Resolved]) -> Iterator[Resolved]:
    """Yield every version after its parents, and else as they stand; lines may be very long."""
    begun: set[Digest] = set()
    done: set[Digest] = set()
    for start in versions:
        waiting = [start]
        while waiting:
            digest = waiting.pop()
            if digest in done:
                continue
            parents = versions[digest].entry.parents
            missing = [one for one in parents if one in versions and one not in begun]
            if digest in begun or not missing:
                begun.add(digest)
                done.add(digest)
                yield versions[digest]
            else:
                begun.add(digest)
                waiting += [digest, *missing]

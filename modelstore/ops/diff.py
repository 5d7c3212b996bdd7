"""Diff: what one version has that another has not, from files down to values.

Files and tensors with equal digests are never read. What is read is compared block by block, so
that memory does not grow with the models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from modelstore.formats.base import View
from modelstore.manifest import FileEntry, Manifest, Scalar, from_scalars
from modelstore.ops import present
from modelstore.ops.read import Located, tensors_by_name
from modelstore.ops.resolve import Resolved
from modelstore.ops.tensordiff import Distance, distance
from modelstore.progress import Progress, silent
from modelstore.store import Store

ADDED, REMOVED, MODIFIED, RETYPED, RESHAPED = "added", "removed", "modified", "dtype", "shape"
"""How a file or a tensor changed: the last two are of tensors only."""

_CODE = ("*.py", "*.so", "*.pyd", "*.dll", "*.dylib")
_TEMPLATES = ("chat_template*", "*.jinja")
_SPEAKING_KEYS = {
    "auto_map": "names code that transformers runs with trust_remote_code",
    "chat_template": "is a template that is run on every chat",
}
_LARGEST_CONFIG = 16 << 20
"""Bytes; JSON files beyond that (vocabularies) are no configuration."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that differs: how, and its bytes before and after (None where it is not)."""

    path: str
    change: str
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class TensorChange:
    """A tensor that differs.

    Attributes:
        name: what it goes by; see `modelstore.ops.read`.
        change: added, removed, dtype, shape, or modified.
        before, after: dtype and shape, None where it is not.
        distance: for a modified one.
        tied_to: the first tensor with the same values on both sides, or "".
    """

    name: str
    change: str
    before: tuple[str, tuple[int, ...]] | None
    after: tuple[str, tuple[int, ...]] | None
    distance: Distance | None = None
    tied_to: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """A parameter or metric of both versions, None where one has none."""

    name: str
    before: int | float | str | None
    after: int | float | str | None

    @property
    def equal(self) -> bool:
        """Whether both are the same."""
        return self.before == self.after


@dataclass(frozen=True, slots=True)
class Difference:
    """How two versions differ.

    Attributes:
        before, after: the versions.
        files, tensors: those that differ; modified tensors first, the most changed of them leading.
        same_files: how many are equal.
        unchanged: the tensors that are equal, and how many values each has.
        parameters, metrics: of both, sorted by name.
        stored: bytes that the later one added to the store, None where that is not known.
        warnings: sentences about changed files that run code when the model is loaded.
    """

    before: Resolved
    after: Resolved
    files: tuple[FileChange, ...]
    tensors: tuple[TensorChange, ...]
    same_files: int
    unchanged: Mapping[str, int]
    parameters: tuple[Pair, ...]
    metrics: tuple[Pair, ...]
    stored: int | None
    warnings: tuple[str, ...]

    @property
    def same_tensors(self) -> int:
        """How many tensors are equal."""
        return len(self.unchanged)

    @property
    def same_content(self) -> bool:
        """Whether every file is equal, so that both versions come out the same."""
        return not self.files


def diff(
    store: Store,
    before: Resolved,
    after: Resolved,
    *,
    tensors: bool = True,
    progress: Progress = silent,
) -> Difference:
    """Return how ``after`` differs from ``before``.

    Args:
        tensors: compare values too, which takes as long as reading both versions.

    Raises:
        NotFoundError: a version's content is not here.
        IntegrityError: a blob that had to be read is damaged.
    """
    for one in (before, after):
        present.require(store, one)
    old = store.manifest(before.model, before.entry)
    new = store.manifest(after.model, after.entry)
    files = _files(old, new)
    comparison = _Comparison(store, old, new)
    changed = tuple(sorted(comparison.changes(progress), key=_weight)) if tensors else ()
    stored = after.entry.mapping("sizes").get("stored")
    return Difference(
        before=before,
        after=after,
        files=files,
        tensors=changed,
        same_files=len(new.files) - sum(change.after is not None for change in files),
        unchanged=comparison.same,
        parameters=_pairs(old.parameters, new.parameters),
        metrics=_pairs(old.metrics, new.metrics),
        stored=stored if isinstance(stored, int) else None,
        warnings=tuple(_warnings(store, old, new, files)),
    )


# --- files


def _files(old: Manifest, new: Manifest) -> tuple[FileChange, ...]:
    left = {file.path: file for file in old.files}
    right = {file.path: file for file in new.files}
    changes = (_file(path, left.get(path), right.get(path)) for path in sorted({*left, *right}))
    return tuple(change for change in changes if change is not None)


def _file(path: str, old: FileEntry | None, new: FileEntry | None) -> FileChange | None:
    if old is None or new is None:
        change = ADDED if old is None else REMOVED
        return FileChange(path, change, old.size if old else None, new.size if new else None)
    if (old.blake3, old.executable) == (new.blake3, new.executable):
        return None
    return FileChange(path, MODIFIED, old.size, new.size)


def _pairs(old: Mapping[str, Scalar], new: Mapping[str, Scalar]) -> tuple[Pair, ...]:
    left, right = from_scalars(old), from_scalars(new)
    return tuple(Pair(name, left.get(name), right.get(name)) for name in sorted({*left, *right}))


# --- tensors


class _Comparison:
    """Compares the tensors of two manifests by name."""

    def __init__(self, store: Store, old: Manifest, new: Manifest) -> None:
        self._store = store
        self._old = tensors_by_name(old)
        self._new = tensors_by_name(new)
        self._known: dict[object, tuple[str, Distance]] = {}
        self.same: dict[str, int] = {}

    def changes(self, progress: Progress) -> Iterator[TensorChange]:
        """Yield what differs; notes what does not."""
        names = list(dict.fromkeys([*self._new, *self._old]))
        total = sum(one.span.size for one in self._new.values())
        done = 0
        for name in names:
            old, new = self._old.get(name), self._new.get(name)
            change = self._change(name, old, new)
            if change is None:
                self.same[name] = math.prod(self._new[name].tensor.shape)
            else:
                yield change
            done += new.span.size if new is not None else 0
            progress("compare", done, total)

    def _change(self, name: str, old: Located | None, new: Located | None) -> TensorChange | None:
        if old is None or new is None:
            return TensorChange(name, ADDED if old is None else REMOVED, _kind(old), _kind(new))
        if old.tensor.dtype != new.tensor.dtype:
            return TensorChange(name, RETYPED, _kind(old), _kind(new))
        if old.tensor.shape != new.tensor.shape:
            return TensorChange(name, RESHAPED, _kind(old), _kind(new))
        if old.span.blob == new.span.blob and old.tensor.view == new.tensor.view:
            return None
        first, apart = self._distance(name, old, new)
        if not apart.changed:
            return None
        tied = first if first != name else ""
        return TensorChange(name, MODIFIED, _kind(old), _kind(new), apart, tied)

    def _distance(self, name: str, old: Located, new: Located) -> tuple[str, Distance]:
        """Return the distance, and the tensor it was first computed for: tied ones are read once."""
        key = (_place(old), _place(new), old.tensor.dtype, old.tensor.shape)
        if key not in self._known:
            self._known[key] = name, distance(self._store, old, new)
        return self._known[key]


def _place(one: Located) -> tuple[str, View | None]:
    return one.span.blob, one.tensor.view


def _kind(one: Located | None) -> tuple[str, tuple[int, ...]] | None:
    return None if one is None else (one.tensor.dtype, one.tensor.shape)


def _weight(change: TensorChange) -> tuple[int, float]:
    """Return what sorts changes: new NaNs and what was all zero, then by distance, then the rest."""
    apart = change.distance
    if apart is None:
        return 3, 0.0
    share = -apart.changed / max(1, apart.values)
    if apart.max_abs is None:
        return 2, share
    if apart.relative_l2 is None or apart.not_finite[1] > apart.not_finite[0]:
        return 0, share
    return 1, -apart.relative_l2


# --- what runs code


def _warnings(
    store: Store, old: Manifest, new: Manifest, files: tuple[FileChange, ...]
) -> Iterator[str]:
    for change in files:
        if change.change == REMOVED:
            continue
        name = change.path.rpartition("/")[2]
        if any(fnmatchcase(name, pattern) for pattern in _CODE):
            yield f"{change.path} was {change.change}: it is code that may run on loading"
        elif any(fnmatchcase(name, pattern) for pattern in _TEMPLATES):
            yield f"{change.path} was {change.change}: it is a template that is run on every chat"
        elif name.endswith("config.json"):
            yield from _changed_keys(store, change.path, old.file(change.path), new)


def _changed_keys(store: Store, path: str, old: FileEntry | None, new: Manifest) -> Iterator[str]:
    before, after = _config(store, old), _config(store, new.file(path))
    for key, meaning in _SPEAKING_KEYS.items():
        if key in after and after[key] != before.get(key):
            yield f"{key} in {path} was {MODIFIED if key in before else ADDED}: it {meaning}"


def _config(store: Store, file: FileEntry | None) -> dict[str, Any]:
    if file is None or file.size > _LARGEST_CONFIG:
        return {}
    try:
        value = json.loads(
            b"".join(store.blobs.read(span.blob, most=span.size) for span in file.spans)
        )
    except (ValueError, RecursionError):
        return {}  # content, not configuration of ours: any bytes may be called config.json
    return value if isinstance(value, dict) else {}

"""A store as a remote: what it has, under the keys under which a remote would hold it.

So whoever can pull from a remote can pull from a store that is served. Nothing else of the store
has a key: no lock, no setting, no file that is not finished.

| key | value |
|---|---|
| `mstore.json` | that this is a store |
| `models.json` | its models |
| `models/<model>/registry.json` | the newest state, as its view would say it |
| `models/<model>/records/<seq>-<digest>.json` | a record, if need be one that awaits its registry |
| `blobs/<2>/<digest>` | a frame |

What gc took away counts as there as long as the trash can give it back: so a gc in the middle of a
push costs nothing, and who pulls a version that is removed just then gets it whole.

A tag of a small value is its digest. That of a frame is what tells its file from any other that was
there, for a repack may replace it; both can be sent as entity tags as they are.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from modelstore import disk
from modelstore.blobs.source import BytesSource, FileSource, RawSource
from modelstore.blobs.trash import Trashed
from modelstore.canonical import canonical
from modelstore.errors import IntegrityError, NotFoundError, RemoteError, StoreError
from modelstore.hashing import Digest, digest_of
from modelstore.names import ModelName, is_model
from modelstore.ops.elsewhere import BLOBS, IDENTITY, SCHEMA, key_of
from modelstore.ops.lines import MODELS, models_document
from modelstore.records import read, record_path
from modelstore.remotes.base import (
    GET_LIMIT,
    Found,
    Tag,
    check_range,
    parse_key,
    parse_prefix,
)
from modelstore.remotes.content import PIECE, Source
from modelstore.state import open_record
from modelstore.store import Store
from modelstore.view import render

RECORD_LIMIT = 8 << 20
"""Bytes that a record has at most."""

_CHAINS = 8
"""Models whose records are remembered, as they were last read."""

_FRAME = re.compile(rf"{BLOBS}/([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})\Z")
_RECORD = re.compile(r"models/([^/]+)/records/([0-9]{10})-([0-9a-f]{64})\.json\Z")
_REGISTRY = re.compile(r"models/([^/]+)/registry\.json\Z")


@dataclass(frozen=True, slots=True)
class FrameKey:
    """The key of a frame."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class RecordKey:
    """The key of a record."""

    model: ModelName
    seq: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class RegistryKey:
    """The key of a registry."""

    model: ModelName


Key = FrameKey | RecordKey | RegistryKey | str
"""What a key of a store stands for; a string is one of the two documents that have no model."""


def kind_of(key: str) -> Key | None:
    """Return what a key stands for; None if a store has none such.

    Raises:
        BadNameError: it is no key at all.
    """
    parse_key(key)
    if key in {IDENTITY, MODELS}:
        return key
    if match := _FRAME.match(key):
        return FrameKey(Digest(match[2]))
    match = _RECORD.match(key) or _REGISTRY.match(key)
    if match is None or not is_model(match[1]):
        return None
    model = ModelName(match[1])
    return RegistryKey(model) if match.re is _REGISTRY else _record_key(model, match)


def _record_key(model: ModelName, match: re.Match[str]) -> RecordKey:
    return RecordKey(model, int(match[2]), Digest(match[3]))


@dataclass(frozen=True, slots=True)
class Opened:
    """A value that is open: it stays what it is until it is closed.

    Attributes:
        source: its bytes.
        tag: tells it from any other value of its key; in double quotes.
    """

    source: RawSource
    tag: Tag

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.source.size

    def close(self) -> None:
        """Close its file, if it has one."""
        if isinstance(self.source, FileSource):
            self.source.close()


class Offered:
    """A store as a `modelstore.remotes.base.Remote`; `modelstore.ops.receive` is what it takes.

    Args:
        store: the store.
    """

    writable = True

    def __init__(self, store: Store) -> None:
        self.store = store
        self.shown = "the store"
        self._chains: dict[ModelName, Mapping[int, bytes]] = {}

    def close(self) -> None:
        """Do nothing: nothing is held."""

    # --- one value

    def open(self, key: str) -> Opened:
        """Open the value of ``key``; whoever does must close it.

        Raises:
            NotFoundError: there is none.
        """
        kind = kind_of(key)
        if isinstance(kind, FrameKey):
            return self._open_frame(key, kind)
        data = None if kind is None else self._small(kind)
        if data is None:
            raise self._absent(key)
        return Opened(BytesSource(data), tag_of(data))

    def get(self, key: str, limit: int = GET_LIMIT) -> bytes:
        """Return the value of ``key``; see `Remote.get`."""
        return self.get_tagged(key, limit)[0]

    def get_tagged(self, key: str, limit: int = GET_LIMIT) -> tuple[bytes, Tag]:
        """Return the value of ``key`` and its tag; see `Remote.get_tagged`."""
        opened = self.open(key)
        try:
            if opened.size > limit:
                raise RemoteError(f"'{key}' of '{self.shown}' has {opened.size} bytes")
            return opened.source.read(0, opened.size), opened.tag
        finally:
            opened.close()

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Return a part of the value of ``key``; see `Remote.get_range`."""
        check_range(start, stop)
        opened = self.open(key)
        try:
            if stop > opened.size:
                raise RemoteError(f"'{key}' of '{self.shown}' ends at {opened.size}")
            return opened.source.read(start, stop)
        finally:
            opened.close()

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the value of ``key``; see `Remote.stream`."""
        opened = self.open(key)
        try:
            for start in range(0, opened.size, PIECE):
                yield opened.source.read(start, min(start + PIECE, opened.size))
        finally:
            opened.close()

    def head(self, key: str) -> Found | None:
        """Return what is known of ``key``; see `Remote.head`."""
        try:
            opened = self.open(key)
        except NotFoundError:
            return None
        opened.close()
        return Found(key, opened.size, opened.tag, None)

    def _open_frame(self, key: str, kind: FrameKey) -> Opened:
        source = self._found(kind.digest)
        if source is None:
            raise self._absent(key)
        status = source.status()
        return Opened(source, Tag(f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'))

    def _found(self, digest: Digest) -> FileSource | None:
        blobs = self.store.blobs
        for find in (blobs.path, blobs.trash().find, blobs.path):  # it may be given back just now
            path = find(digest)
            try:
                if path is not None:
                    return FileSource(path)
            except StoreError as error:
                if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                    raise
        return None

    def _small(self, kind: RecordKey | RegistryKey | str) -> bytes | None:
        if kind == IDENTITY:
            return self._identity()
        if kind == MODELS:
            return models_document(self.store.models())
        if isinstance(kind, RegistryKey):
            return self.registry(kind.model)
        return self.record(kind) if isinstance(kind, RecordKey) else None

    def _identity(self) -> bytes:
        name = digest_of(f"{platform.node()}\n{self.store.root}".encode("utf-8", "replace"))
        value = {"schema": SCHEMA, "format": 1, "features": [], "id": name[:32]}
        return canonical(value)

    def registry(self, model: ModelName) -> bytes | None:
        """Return the newest state of a model as the text of its view; None where it has none."""
        registry = self.store.registry(model)
        return render(registry.state().document) if registry.exists() else None

    def _absent(self, key: str) -> NotFoundError:
        return NotFoundError(f"'{self.shown}' has no '{key}'")

    # --- records

    def record(self, kind: RecordKey) -> bytes | None:
        """Return a record: of the registry, or one that was pushed to follow it; None for none.

        The registry is read only where all else fails: its records never change.
        """
        known = self.waiting(kind) or self._chains.get(kind.model, {}).get(kind.seq)
        if known is None or digest_of(known) != kind.digest:
            known = self._chain(kind.model).get(kind.seq)
        return known if known is not None and digest_of(known) == kind.digest else None

    def waiting(self, kind: RecordKey) -> bytes | None:
        """Return a record that has a file of its own, or was pushed; None for others and for none."""
        registry = self.store.registry(kind.model)
        payload = read(record_path(registry.records.refs, kind.seq))
        if payload is not None and digest_of(payload) == kind.digest:
            return payload
        return self._pushed(kind)

    def _pushed(self, kind: RecordKey) -> bytes | None:
        try:
            payload = self.store.blobs.read(kind.digest, most=RECORD_LIMIT)
            record = open_record(payload, "a record")
        except (NotFoundError, IntegrityError):
            return None
        return payload if record is not None and record["seq"] == kind.seq else None

    def _chain(self, model: ModelName) -> Mapping[int, bytes]:
        """Return the records that lead to the newest state of a model, by number."""
        registry = self.store.registry(model)
        chain = registry.records.chain(registry.state().head) if registry.exists() else {}
        while len(self._chains) >= _CHAINS:
            self._chains.pop(next(iter(self._chains), model), None)
        self._chains[model] = chain
        return chain

    # --- listing

    def list(self, prefix: str = "", after: str = "") -> Iterator[Found]:
        """Yield the values below ``prefix``, in the order of their keys; see `Remote.list`.

        Args:
            after: only keys that come after this one.
        """
        begin = f"{parse_prefix(prefix)}/" if prefix else ""
        for found in self._all(begin, after):
            if found.key.startswith(begin) and found.key > after:
                yield found

    def _all(self, begin: str, after: str) -> Iterator[Found]:
        if _overlap(begin, f"{BLOBS}/"):
            yield from self._frames(begin, after)
        if not begin:
            yield self._known(MODELS)
        if _overlap(begin, "models/"):
            for model in self.store.models():
                if _overlap(begin, f"models/{model}/"):
                    yield from self._of_model(model)
        if not begin:
            yield self._known(IDENTITY)

    def _frames(self, begin: str, after: str) -> Iterator[Found]:
        root = self.store.blobs.root / "blobs"
        trashed: dict[str, list[Trashed]] = {}
        for item in self.store.blobs.trash().content():
            if item.digest is not None:
                trashed.setdefault(item.digest[:2], []).append(item)
        for directory in (f"{number:02x}" for number in range(256)):
            below = f"{BLOBS}/{directory}/"
            if _overlap(begin, below) and f"{below}~" > after:
                sizes = {item.path.name[-64:]: item.size() for item in trashed.get(directory, ())}
                if (root / directory).is_dir():
                    with disk.explained(root / directory, "read"):
                        sizes |= _sizes_in(os.fspath(root / directory))
                for name, size in sorted(sizes.items()):
                    key = key_of(Digest(name))
                    if _FRAME.match(key):
                        yield Found(key, size, None, None)

    def _of_model(self, model: ModelName) -> Iterator[Found]:
        below = f"models/{model}"
        for seq, payload in sorted(self._chain(model).items()):
            digest = digest_of(payload)
            yield Found(f"{below}/records/{seq:010d}-{digest}.json", len(payload), None, None)
        yield self._known(f"{below}/registry.json")

    def _known(self, key: str) -> Found:
        found = self.head(key)
        if found is None:
            raise self._absent(key)
        return found

    # --- what it takes

    def put_if_absent(self, key: str, source: Source) -> bool:
        """Refuse; see `modelstore.ops.receive`."""
        self._refuse()

    def put(self, key: str, source: Source) -> None:
        """Refuse: nothing is overwritten."""
        self._refuse()

    def swap(self, key: str, data: bytes, expected: Tag | None) -> Tag:
        """Refuse; see `modelstore.ops.receive`."""
        self._refuse()

    def delete(self, keys: Iterable[str]) -> None:
        """Refuse: what others pushed is theirs."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RemoteError(f"'{self.shown}' is offered to be read")


def tag_of(data: bytes) -> Tag:
    """Return the tag of a small value."""
    return Tag(f'"{digest_of(data)}"')


def _overlap(one: str, other: str) -> bool:
    """Tell whether a key may begin with both."""
    return one.startswith(other) or other.startswith(one)


def _sizes_in(directory: str) -> dict[str, int]:
    """Return the bytes of the files in a directory; what goes meanwhile is not told."""
    sizes = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                sizes[entry.name] = entry.stat().st_size
    return sizes

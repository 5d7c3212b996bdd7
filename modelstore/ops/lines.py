"""Lines of versions at a remote: the registry of each model, and the records that led to it.

| key | value |
|---|---|
| `models.json` | the names of the models, so that a place that cannot be listed can be cloned |
| `models/<model>/registry.json` | the registry's view; it is swapped, and then a push is done |
| `models/<model>/records/<seq>-<digest>.json` | a record, byte for byte; there before its registry |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from modelstore.blobs.parallel import in_order
from modelstore.canonical import canonical, parse_mapping
from modelstore.errors import ConflictError, IntegrityError, NotFoundError, UsageError
from modelstore.hashing import Digest, digest_of
from modelstore.names import ModelName, is_model
from modelstore.ops.elsewhere import AT_ONCE
from modelstore.remotes.base import SWAP_LIMIT, Remote, Tag
from modelstore.state import open_record
from modelstore.view import open_view

MODELS = "models.json"
SCHEMA = "mstore/models/1"

_LIMIT = 8 << 20
_LISTED = 32
"""Missing records from which on they are listed and fetched side by side, not one after the other."""

_NO_DIGEST = "0" * 64
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Line:
    """The registry of a model at a remote.

    Attributes:
        model: its name.
        data: the view, as it lies there.
        document: what it says.
        tag: what a swap expects.
    """

    model: ModelName
    data: bytes
    document: Mapping[str, Any]
    tag: Tag

    @property
    def head(self) -> Digest:
        """The digest of its newest record."""
        return Digest(self.document["head"])

    @property
    def seq(self) -> int:
        """The number of its newest record."""
        return int(self.document["seq"])


def models_at(remote: Remote) -> list[ModelName]:
    """Return the models at a remote, sorted.

    Raises:
        IntegrityError: what says so is damaged, or names what cannot be a model.
    """
    try:
        return _names(remote.get(MODELS, _LIMIT), remote)
    except NotFoundError:
        return []


def read_line(remote: Remote, model: ModelName) -> Line | None:
    """Return the registry of a model at a remote, None where there is none.

    Raises:
        IntegrityError: it is damaged, or another model's.
        NewerFormatError: it was written by a newer mstore.
    """
    try:
        data, tag = remote.get_tagged(_registry_key(model), _LIMIT)
    except NotFoundError:
        return None
    what = f"the registry of {model} at '{remote.shown}'"
    document = open_view(data, what)
    if document is None or document.get("model_type") != model:
        raise IntegrityError(
            f"{what} is damaged, or another's",
            "push it again from a store that has it: mstore push",
        )
    return Line(model, data, document, tag)


def records_after(
    remote: Remote,
    line: Line,
    known: Callable[[Digest], bool],
    reached: int = 0,
    *,
    partly: bool = False,
) -> list[bytes]:
    """Return the records that led to ``line``, the oldest first, back to one that is ``known``.

    Args:
        known: tells whether a record of that digest need not be fetched.
        reached: the number of a record that may be known; only tells how many there may be.
        partly: be content with the newest where older ones are not there: a store that came from
            Git may never have had them.

    Raises:
        IntegrityError: one is missing, damaged or of another chain.
    """
    listed = _listed(remote, line, reached) if line.seq - reached > _LISTED else {}
    found: list[bytes] = []
    seq, head = line.seq, line.head
    while seq > 0 and not known(head):
        payload = listed.get(head) or _fetch(remote, line.model, seq, head)
        if payload is None and partly and found:
            return found[::-1]
        if payload is None:
            raise _wrong(remote, line.model, seq)
        record = open_record(payload, f"record {seq} of {line.model}")
        if digest_of(payload) != head or record is None or record["seq"] != seq:
            raise _wrong(remote, line.model, seq)
        found.append(payload)
        seq, head = seq - 1, Digest(record.get("prev", ""))
    if seq == 0 and head != _NO_DIGEST:
        raise _wrong(remote, line.model, 0)
    return found[::-1]


def put_records(remote: Remote, model: ModelName, payloads: Mapping[int, bytes]) -> int:
    """Put records that a remote lacks; return how many those were."""

    def put(item: tuple[int, bytes]) -> bool:
        seq, payload = item
        return remote.put_if_absent(_record_key(model, seq, digest_of(payload)), payload)

    return sum(in_order(put, sorted(payloads.items()), AT_ONCE))


def put_line(remote: Remote, model: ModelName, data: bytes, before: Line | None) -> None:
    """Let ``data`` be the registry of a model at a remote, where it still is what it was.

    Raises:
        ConflictError: somebody was faster.
        UsageError: it is too large to be swapped.
    """
    if len(data) > SWAP_LIMIT:
        raise UsageError(
            f"the registry of {model} has {len(data)} bytes, over {SWAP_LIMIT}",
            f"remove versions from it: mstore gc -M {model} --keep-last N",
        )
    try:
        remote.swap(_registry_key(model), data, None if before is None else before.tag)
    except ConflictError as error:
        raise ConflictError(
            f"somebody else pushed {model} to '{remote.shown}' at the same moment",
            "take over what they pushed: mstore pull",
        ) from error


def list_model(remote: Remote, model: ModelName) -> None:
    """Add a model to those at a remote.

    Raises:
        ConflictError: it has one that differs in case alone; or others are changing the list.
    """
    for _ in range(_TRIES):
        names: list[ModelName] = []
        tag: Tag | None = None
        with suppress(NotFoundError):
            data, tag = remote.get_tagged(MODELS, _LIMIT)
            names = _names(data, remote)
        if model in names:
            return
        other = next((name for name in names if name.lower() == model.lower()), None)
        if other is not None:
            raise ConflictError(
                f"'{remote.shown}' has a model {other!r}, which differs in case alone"
            )
        with suppress(ConflictError):
            remote.swap(MODELS, models_document({*names, model}), tag)
            return
    raise ConflictError(f"others are pushing to '{remote.shown}'", "run the command again")


def models_document(models: Iterable[ModelName]) -> bytes:
    """Return the value of `MODELS` that names ``models``."""
    return canonical({"schema": SCHEMA, "models": sorted(models)})


def parse_models(data: bytes, what: str) -> list[ModelName]:
    """Return the models that the value of `MODELS` names, sorted.

    Raises:
        IntegrityError: it is not one.
    """
    value = parse_mapping(data, what)
    names = value.get("models")
    if value.get("schema") != SCHEMA or not isinstance(names, list) or not _are_models(names):
        raise IntegrityError(f"{what} is not a list of models")
    return sorted(ModelName(name) for name in names)


def _names(data: bytes, remote: Remote) -> list[ModelName]:
    return parse_models(data, f"'{MODELS}' at '{remote.shown}'")


def _are_models(names: Iterable[object]) -> bool:
    return all(isinstance(name, str) and is_model(name) for name in names)


def _registry_key(model: ModelName) -> str:
    return f"models/{model}/registry.json"


def _records_prefix(model: ModelName) -> str:
    return f"models/{model}/records"


def _record_key(model: ModelName, seq: int, digest: Digest) -> str:
    return f"{_records_prefix(model)}/{seq:010d}-{digest}.json"


def _listed(remote: Remote, line: Line, reached: int) -> Mapping[Digest, bytes]:
    """Return the records that a remote has after change ``reached``, by digest."""
    if not remote.writable:
        return {}
    prefix = f"{_records_prefix(line.model)}/"
    names = [value.key.removeprefix(prefix) for value in remote.list(_records_prefix(line.model))]
    keys = [f"{prefix}{name}" for name in names if f"{reached:010d}" < name[:10]]
    return {digest_of(data): data for data in in_order(_getter(remote), keys, AT_ONCE)}


def _getter(remote: Remote) -> Callable[[str], bytes]:
    return lambda key: remote.get(key, _LIMIT)


def _fetch(remote: Remote, model: ModelName, seq: int, digest: Digest) -> bytes | None:
    try:
        return remote.get(_record_key(model, seq, digest), _LIMIT)
    except NotFoundError:
        return None


def _wrong(remote: Remote, model: ModelName, seq: int) -> IntegrityError:
    return IntegrityError(
        f"record {seq} of {model} at '{remote.shown}' is missing, damaged or of another history",
        "push it again from a store that has it whole: mstore push",
    )


def numbered(payloads: Sequence[bytes], last: int) -> dict[int, bytes]:
    """Return records by number, where the last of them has the number ``last``."""
    return dict(enumerate(payloads, start=last - len(payloads) + 1))

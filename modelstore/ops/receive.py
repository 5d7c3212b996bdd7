"""Receive: what others push to a store that is served, checked as what is pulled is.

A frame is decoded and hashed before it gets its name. A record waits as a blob, which no version
needs, until the registry that it leads to comes; so gc treats it as it does frames that wait: it
moves them to the trash, where they count as there, and the registry takes back what it names. The
registry is taken over under the store's lock, and only where it goes on from the one that is here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

from modelstore.blobs.closure import Closure
from modelstore.errors import ConflictError, IntegrityError, NotFoundError, StoreError
from modelstore.hashing import Digest, digest_of
from modelstore.manifest import BlobSpan
from modelstore.names import ModelName
from modelstore.ops import pull
from modelstore.ops.arrivals import Expected, bring
from modelstore.ops.elsewhere import key_of
from modelstore.ops.lines import Line, parse_models
from modelstore.ops.offered import Offered, RecordKey, tag_of
from modelstore.ops.pull import Pulled
from modelstore.remotes.base import Tag
from modelstore.state import Entry, open_record
from modelstore.store import Store
from modelstore.view import open_view, render

_SEND_AGAIN = "run the command again, which sends it: mstore push"


class OutdatedError(ConflictError):
    """What is here is no longer what the pusher saw."""


@contextmanager
def _ours() -> Iterator[None]:
    """Say of damage that it is in the store, and not in what was pushed."""
    try:
        yield
    except IntegrityError as error:
        message = f"the store is damaged: {error.message}"
        raise ConflictError(message, "mend it where it lies: mstore fsck --repair") from error


# --- frames


class _Arriving(Offered):
    """A store that gives some frames more, while they come."""

    def __init__(self, store: Store, frames: Mapping[Digest, Iterator[bytes]]) -> None:
        super().__init__(store)
        self.shown = "what was pushed"
        self.lacking = ""
        self._coming = {key_of(digest): pieces for digest, pieces in frames.items()}

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield a frame that comes; what it is built on may be in the trash."""
        if key in self._coming:
            yield from self._coming[key]
            return
        try:
            yield from super().stream(key)
        except NotFoundError:
            self.lacking = key.rpartition("/")[2]
            raise


def take_frames(store: Store, frames: Mapping[Digest, Iterator[bytes]]) -> list[bool]:
    """Take frames: staged, decoded, hashed, and durable under their names when this returns.

    Args:
        frames: their bytes; not touched where one is here with all that it is built on.

    Returns:
        for each whether it was taken; it was here otherwise.

    Raises:
        IntegrityError: one is damaged, or not the blob that it says; none is taken.
        ConflictError: what one is built on is not here; none is taken.
        DiskFullError: there is no room for them.
    """
    with _ours():
        closure = Closure(store.blobs)
        new = [bool(closure.absent(closure.of([digest]))) for digest in frames]
    arriving = _Arriving(store, frames)
    try:
        bring(store, arriving, frames, expected=Expected(at_once=1))
    except NotFoundError:
        raise _taken_away() from None
    except IntegrityError as error:
        if not arriving.lacking and isinstance(error.__cause__, NotFoundError):
            raise _taken_away() from None
        if not arriving.lacking:
            raise
        raise ConflictError(
            f"'{arriving.lacking}', which what was pushed is built on, is not here", _SEND_AGAIN
        ) from error
    return new


def _taken_away() -> ConflictError:
    """Return the error for what a gc took away in the same moment; the next try brings it back."""
    return ConflictError("what was pushed is built on something that was just removed", _SEND_AGAIN)


# --- records


def check_record(key: RecordKey, payload: bytes) -> None:
    """Check that ``payload`` is the record that its key says.

    Raises:
        IntegrityError: it is not.
    """
    record = open_record(payload, f"record {key.seq} of {key.model}")
    if record is None or digest_of(payload) != key.digest or record["seq"] != key.seq:
        raise IntegrityError(f"what was pushed as record {key.seq} of {key.model} is not that")


def take_records(store: Store, records: Mapping[RecordKey, bytes]) -> list[bool]:
    """Take records of chains whose registries will follow; return for each whether it was not here.

    Args:
        records: those that were checked.
    """
    offered = Offered(store)
    new = {key: data for key, data in records.items() if offered.waiting(key) is None}
    if new:
        with store.blobs.transaction() as transaction:
            for payload in new.values():
                transaction.add_bytes(payload)
            transaction.publish()
    return [key in new for key in records]


# --- registries


def take_models(store: Store, data: bytes, expected: Tag | None) -> Tag:
    """Check a list of models that is about to become true; a registry that is pushed makes it so.

    Raises:
        IntegrityError: it is none.
        ConflictError: a model of it differs from one that is here in case alone.
        OutdatedError: the list is no longer what the pusher saw.
    """
    here = Offered(store).get_tagged("models.json")
    wanted = parse_models(data, "what was pushed as 'models.json'")
    if here[1] != expected or not {*store.models()} <= {*wanted}:
        raise OutdatedError("'models.json' was changed by somebody else meanwhile")
    for model in wanted:
        _require_own_name(store, model)
    return tag_of(data)


def take_registry(
    store: Store, model: ModelName, data: bytes, expected: Tag | None
) -> tuple[Tag, Pulled | None]:
    """Let what was pushed be the registry of a model, where it goes on from what is here.

    Args:
        data: the text of its view.
        expected: the tag of the registry that the pusher saw; None where there was none.

    Returns:
        the tag of the registry now; and what was taken over, None if it said so already.

    Raises:
        OutdatedError: the registry here is another by now; nothing was changed.
        ConflictError: a record, a manifest or a frame is not here, or a directory is in the way;
            nothing was changed.
        IntegrityError: it is damaged, another model's, or does not say what its records do.
    """
    document = open_view(data, f"the registry of {model}")
    if document is None or document.get("model_type") != model:
        raise IntegrityError(f"what was pushed as the registry of {model} is damaged, or another's")
    _require_own_name(store, model)
    line = Line(model, data, document, Tag(""))
    for _ in range(pull.TRIES):
        with _ours():
            ours = pull.history(store, model)
        before = None if ours.state is None else ours.state.document
        if before == document:  # by this very call, whose reply was lost
            return tag_of(render(before)), None
        if (None if before is None else tag_of(render(before))) != expected:
            raise OutdatedError(f"somebody else pushed {model}, or changed it here, meanwhile")
        with _ours(), suppress(NotFoundError):  # a gc took something away just now: once more
            plan = _planned(store, line, ours)
            if not pull.follow(store, plan, ours):
                continue
            return tag_of(render(store.state(model).document)), plan.pulled
    raise ConflictError(f"{model} is changed again and again", "run the command again")


def _require_own_name(store: Store, model: ModelName) -> None:
    for other in store.models():
        if other != model and other.lower() == model.lower():
            raise ConflictError(f"there is a model {other!r}, which differs in case alone")


def _planned(store: Store, line: Line, ours: pull.History) -> pull.Plan:
    """Find out what taking a registry over takes, and that all of it is here."""
    try:
        plan = pull.make_plan(store, Offered(store), line, ours, rebase=False)
    except IntegrityError as error:
        message = f"{line.model} cannot be taken over: {error.message}"
        raise ConflictError(message, _SEND_AGAIN) from error
    if plan.pulled.outcome not in ("new", "forward", "rebased"):
        raise ConflictError(
            f"{line.model} is further here than what was pushed", "run: mstore pull"
        )
    _require_here(store, line.model, {e.id for e in plan.versions() if e.id is not None})
    sizes: dict[Digest, int] = {}
    for entry in plan.versions():
        for span in _spans(store, line.model, entry):
            if sizes.setdefault(span.blob, span.size) != span.size:
                raise ConflictError(f"manifests of {line.model} contradict each other")
    _require_here(store, line.model, sizes.keys())
    wrong = (blob for blob, size in sizes.items() if store.blobs.header(blob).raw_size != size)
    blob = next(wrong, None)
    if blob is not None:
        raise ConflictError(f"a manifest of {line.model} is wrong about blob '{blob}'")
    plan.learn(lazy=False)
    return plan


def _spans(store: Store, model: ModelName, entry: Entry) -> Iterator[BlobSpan]:
    try:
        manifest = store.manifest(model, entry)
    except StoreError as error:
        raise ConflictError(f"{model} cannot be taken over: {error.message}") from error
    return (span for file in manifest.files for span in file.spans)


def _require_here(store: Store, model: ModelName, blobs: Collection[Digest]) -> None:
    """Take blobs back from the trash, with what they are built on; raise if one is nowhere."""
    closure = Closure(store.blobs)
    if not closure.absent(closure.of(blobs)):
        return
    with store.lock():
        trash = store.blobs.trash()
        lost = next((one for one in sorted(blobs) if not trash.give_back(one)), None)
        trash.sync()
    if lost is not None:
        raise ConflictError(f"blob '{lost}', which {model} needs, is not here", _SEND_AGAIN)

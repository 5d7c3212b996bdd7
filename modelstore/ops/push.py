"""Push: our registries, and all that their versions need, go to a remote.

Frames go first, then the records, and then the registry takes the place of the one that was there
when we began to look: that is the moment at which the push is done. Of two who push at once, one
wins and the other is told to pull.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelstore.errors import ConflictError, IntegrityError, RemoteError, StoreError
from modelstore.hashing import Digest
from modelstore.names import ModelName
from modelstore.ops import tracking
from modelstore.ops.elsewhere import claim, identify
from modelstore.ops.lines import Line, list_model, put_line, put_records, read_line
from modelstore.ops.pull import history
from modelstore.ops.remotes import Place
from modelstore.ops.transfer import Sent, send, there
from modelstore.progress import Progress, silent
from modelstore.remotes.base import Remote
from modelstore.remotes.probe import require_registries
from modelstore.state import State
from modelstore.store import Store
from modelstore.view import render

_ROUNDS = 3
"""How often frames are looked for that somebody else takes away while we push."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did for a model.

    Attributes:
        outcome: "same", "new", "forward", or "failed".
        versions: those that the remote did not have.
        frames, bytes: what was sent, or would be.
        error: why it failed, None where it did not.
    """

    model: ModelName
    outcome: str
    versions: tuple[str, ...] = ()
    frames: int = 0
    bytes: int = 0
    error: StoreError | None = None


def push(
    store: Store,
    place: Place,
    models: Sequence[ModelName] = (),
    *,
    dry_run: bool = False,
    read_back: bool = False,
    progress: Progress = silent,
) -> list[Pushed]:
    """Push models, each for itself: one that fails keeps no other back.

    Args:
        models: which; () for all that have versions.
        dry_run: find out what would be sent, and change nothing.
        read_back: read all that was sent again, and check every byte.

    Raises:
        RemoteError: the remote failed, cannot be written to, or would lose pushes of others.
        NewerFormatError: it was made by a newer mstore.
    """
    chosen = models or [m for m in store.models() if store.state(m).document["versions"]]
    if not dry_run:
        _claim(place.remote)
    run = _Run(store, place, dry_run=dry_run, read_back=read_back, progress=progress)
    return [run.model(model) for model in chosen]


def _claim(remote: Remote) -> None:
    """Make a remote one of mstore's; what is not may lose registries, so that is tried first."""
    if remote.head("mstore.json") is None:
        require_registries(remote)
        claim(remote)
    identify(remote)


class _Run:
    """One push."""

    def __init__(
        self, store: Store, place: Place, *, dry_run: bool, read_back: bool, progress: Progress
    ) -> None:
        self._store = store
        self._place = place
        self._remote = place.remote
        self._dry_run = dry_run
        self._read_back = read_back
        self._progress = progress
        self._there: Mapping[Digest, int] | None = None

    def model(self, model: ModelName) -> Pushed:
        """Push one model."""
        try:
            return self._model(model)
        except RemoteError:
            raise
        except StoreError as error:
            return Pushed(model, "failed", error=error)

    def _model(self, model: ModelName) -> Pushed:
        self._store.bring_up(model)
        ours = history(self._store, model)
        state = ours.state or self._store.state(model)
        if state.seq not in ours.chain:
            raise IntegrityError(
                f"the newest record of {model} is not here, only its registry",
                "run: mstore fsck --repair",
            )
        line = read_line(self._remote, model)
        if line is not None and line.head == state.head:
            self._seen(model, line.data)
            return Pushed(model, "same")
        if line is not None and line.head not in ours.digests and line.head not in ours.merged:
            raise ConflictError(
                f"'{self._remote.shown}' has changes of {model} that are not here",
                f"take them over: mstore pull {self._place.said} -M {model}",
            )
        outcome = "new" if line is None else "forward"
        versions = _new_versions(state, line)
        if self._dry_run:
            frames, size = self._would_send(state)
            return Pushed(model, outcome, versions, frames, size)
        sent = self._send(model, state)
        since = 0 if line is None else ours.digests.get(line.head, 0)
        put_records(
            self._remote, model, {seq: data for seq, data in ours.chain.items() if seq > since}
        )
        data = render(state.document)
        if line is None:
            list_model(self._remote, model)
        put_line(self._remote, model, data, line)
        self._seen(model, data)
        return Pushed(model, outcome, versions, sent.frames, sent.bytes)

    def _seen(self, model: ModelName, data: bytes) -> None:
        if self._place.name and not self._dry_run:
            tracking.note(self._store, self._place.name, model, data)

    def _send(self, model: ModelName, state: State) -> Sent:
        """Send all that the versions of ``state`` need, and look whether it is there."""
        needed = self._blobs(model, state)
        frames = size = 0
        for _ in range(_ROUNDS):
            found = self._listed()
            sent = send(
                self._store,
                self._remote,
                needed - found.keys(),
                found,
                self._progress,
                read_back=self._read_back,
            )
            frames, size = frames + sent.frames, size + sent.bytes
            if sent.damaged:
                raise _damaged(model, sent.damaged)
            if not sent.frames:
                return Sent(frames, size, {})
            self._there = None
            if needed <= self._listed().keys():
                return Sent(frames, size, {})
        raise RemoteError(
            f"'{self._remote.shown}' does not keep what is sent there",
            "is somebody else pruning it? then run the command again",
        )

    def _would_send(self, state: State) -> tuple[int, int]:
        needed = self._blobs(ModelName(state.document["model_type"]), state)
        missing = [d for d in needed if d not in self._listed() and d in self._store.blobs]
        return len(missing), sum(self._store.blobs.header(d).stored_size for d in missing)

    def _listed(self) -> Mapping[Digest, int]:
        if self._there is None:
            self._there = there(self._remote)
        return self._there

    def _blobs(self, model: ModelName, state: State) -> set[Digest]:
        found: set[Digest] = set()
        for entry in state.entries():
            if entry.id is not None:
                found |= {entry.id, *self._store.manifest(model, entry).blobs()}
        return found


def _new_versions(state: State, line: Line | None) -> tuple[str, ...]:
    known = {} if line is None else line.document["versions"]
    return tuple(str(entry.version) for entry in state.entries() if str(entry.version) not in known)


def _damaged(model: ModelName, damaged: Mapping[Digest, str]) -> IntegrityError:
    first = min(damaged)
    blobs = "a blob" if len(damaged) == 1 else f"{len(damaged)} blobs"
    return IntegrityError(
        f"{blobs} of {model} cannot be sent, as '{first}': {damaged[first]}",
        "mend the store, and push again: mstore fsck --repair",
    )

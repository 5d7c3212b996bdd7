"""Pull: what was pushed to a remote becomes ours.

Where we changed nothing since, its records follow ours. Where both sides changed something, that is
a conflict; with a rebase our changes go on top of theirs, as one record that names our old head.
Blobs are all here, and version directories in place, before a record says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelstore.blobs.closure import Closure
from modelstore.errors import ConflictError, IntegrityError
from modelstore.hashing import Digest, digest_of
from modelstore.names import ModelName
from modelstore.ops import chains, rm
from modelstore.ops.fetch import Fetched, fetch, is_lazy
from modelstore.ops.lines import Line, numbered, records_after
from modelstore.ops.merging import Merged, heads_merged, merge
from modelstore.ops.placing import Placing
from modelstore.ops.remotes import Place
from modelstore.ops.transfer import Brought
from modelstore.progress import Progress, silent
from modelstore.remotes.base import Remote
from modelstore.state import Entry, State, apply, empty_document, make_record, open_record
from modelstore.store import Store, now

TRIES = 5
"""How often somebody else may change a model while it is taken over."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull did to a model.

    Attributes:
        outcome: "same", "ahead" (we have all that they have, and more), "new", "forward", "rebased".
        versions: those that were not here before.
        renamed: versions of ours that have another number now, by the one they had.
        said: what the user should know, one sentence each.
        brought: the frames that came; of a dry run about the bytes that would.
    """

    model: ModelName
    outcome: str
    versions: tuple[str, ...]
    renamed: Mapping[str, str]
    said: tuple[str, ...]
    brought: Brought


def pull(
    store: Store,
    place: Place,
    models: Sequence[ModelName] = (),
    *,
    rebase: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> list[Pulled]:
    """Bring what a remote has, and let our registries say it.

    Args:
        models: those that are wanted; () for all.
        rebase: where both sides changed a model, put our changes on top of theirs.
        dry_run: find out what would be done, and change nothing.

    Raises:
        ConflictError: both sides changed a model, or a directory is in the way; all other models
            were pulled.
        NotFoundError, IntegrityError, RemoteError: as for `fetch`.
    """
    if not dry_run:
        store.prepare()
    found = fetch(store, place, models, progress, dry_run=dry_run)
    done: list[Pulled] = []
    conflict: ConflictError | None = None
    for one in found:
        try:
            if dry_run:
                done.append(_foreseen(store, place, one, rebase=rebase))
            else:
                done.append(_integrate(store, place, one, rebase=rebase))
        except ConflictError as error:  # noqa: PERF203  (the loop is for it)
            conflict = conflict or error
    if conflict is not None:
        raise conflict
    return done


@dataclass(frozen=True, slots=True)
class History:
    """Our registry and how it came about; no state where there is nothing of ours to keep."""

    state: State | None
    chain: Mapping[int, bytes]
    digests: Mapping[Digest, int]
    merged: frozenset[Digest]


def history(store: Store, model: ModelName) -> History:
    """Return the state of a model here, and the records that led to it."""
    registry = store.registry(model)
    if registry.is_foreign():
        raise ConflictError(
            f"'{registry.directory}' has a registry that mstore did not make", "run: mstore adopt"
        )
    if not registry.exists():
        return History(None, {}, {}, frozenset())
    state = registry.state()
    chain = registry.records.chain(state.head)
    digests = {digest_of(payload): seq for seq, payload in chain.items()}
    merged = frozenset(heads_merged(_opened(chain)))
    return History(state, chain, {**digests, state.head: state.seq}, merged)


def _opened(chain: Mapping[int, bytes]) -> dict[int, Mapping[str, Any]]:
    opened = {seq: open_record(payload, f"record {seq}") for seq, payload in chain.items()}
    return {seq: record for seq, record in opened.items() if record is not None}


def _is_blank(state: State) -> bool:
    """Tell whether nobody ever committed to a line."""
    return not (state.document["versions"] or state.document.get("removed") or state.aliases)


def _foreseen(store: Store, place: Place, fetched: Fetched, *, rebase: bool) -> Pulled:
    ours = history(store, fetched.model)
    plan = make_plan(store, place.remote, fetched.line, ours, rebase=rebase)
    return replace(plan.pulled, brought=fetched.brought)


def _integrate(store: Store, place: Place, fetched: Fetched, *, rebase: bool) -> Pulled:
    line = fetched.line
    lazy = is_lazy(store, place.name)
    for _ in range(TRIES):
        ours = history(store, line.model)
        plan = make_plan(store, place.remote, line, ours, rebase=rebase)
        plan.learn(lazy=lazy)
        if follow(store, plan, ours):
            return replace(plan.pulled, brought=fetched.brought)
    raise ConflictError(f"{line.model} is changed again and again", "run the command again")


def follow(store: Store, plan: Plan, ours: History) -> bool:
    """Carry out a plan, unless our history is no longer what it was made from; tell whether.

    Raises:
        ConflictError: a blob has gone, or a directory is in the way.
    """
    model = plan.pulled.model
    with store.lock():
        if _head(store, model) != (None if ours.state is None else ours.state.head):
            return False  # something was committed meanwhile
        plan.check_present()
        plan.carry_out()
    rm.put_away(store, rm.left_behind(store, model))
    return True


def _head(store: Store, model: ModelName) -> Digest | None:
    registry = store.registry(model)
    return registry.state().head if registry.exists() else None


def make_plan(store: Store, remote: Remote, line: Line, ours: History, *, rebase: bool) -> Plan:
    """Find out how their history and ours go together.

    Raises:
        ConflictError: both sides went on, and there is to be no rebase.
        IntegrityError: their records are not whole, or their registry does not say what they do.
    """
    state = ours.state
    if state is None or _is_blank(state):
        payloads = records_after(remote, line, lambda _: False, partly=True)
        if len(payloads) == line.seq:
            _require_same(remote, line, empty_document(line.model), payloads)
        return Plan(store, line, "new", payloads)
    if line.head == state.head:
        whole = store.registry(line.model).has_records()
        return Plan(store, line, "same" if whole else "new", list(_ordered(ours.chain)))
    if line.head in ours.digests or line.head in ours.merged:
        return Plan(store, line, "ahead", [])
    payloads = records_after(remote, line, ours.digests.__contains__, state.seq)
    common = line.seq - len(payloads)
    if ours.digests.get(_prev(payloads[0])) == state.seq:
        _require_same(remote, line, state.document, payloads)
        return Plan(store, line, "forward", payloads, state)
    before = [ours.chain[seq] for seq in sorted(ours.chain) if seq <= common]
    base = chains.replay_all(line.model, ours.chain, common)
    if base is not None:
        _require_same(remote, line, base, payloads)
    if state.head in heads_merged(_opened(numbered(payloads, line.seq))):
        return Plan(store, line, "rebased", [*before, *payloads], state)
    if not rebase:
        raise ConflictError(
            f"{line.model} was changed here and at '{remote.shown}'",
            f"put our changes on top of theirs: mstore pull --rebase -M {line.model}",
        )
    merged = merge(base or empty_document(line.model), state, State(line.document))
    return Plan(store, line, "rebased", [*before, *payloads], state, merged)


def _ordered(chain: Mapping[int, bytes]) -> list[bytes]:
    return [payload for _, payload in sorted(chain.items())]


def _prev(payload: bytes) -> Digest:
    record = open_record(payload, "a record")
    return Digest("" if record is None else record.get("prev", ""))


def _require_same(
    remote: Remote, line: Line, before: Mapping[str, Any], payloads: Sequence[bytes]
) -> None:
    if chains.replay(before, payloads) != line.document:
        raise IntegrityError(
            f"the registry of {line.model} at '{remote.shown}' does not say what its records say",
            "push it again from a store that has it whole: mstore push",
        )


class Plan:
    """What a pull will do to one model.

    Args:
        line: what is there.
        outcome: as `Pulled` has it.
        payloads: the records that follow ours; or, where they take the place of ours, all there are.
        ours: our state, None where there is nothing of ours to keep.
        merged: what takes our changes over.
    """

    def __init__(
        self,
        store: Store,
        line: Line,
        outcome: str,
        payloads: Sequence[bytes],
        ours: State | None = None,
        merged: Merged | None = None,
    ) -> None:
        self._store = store
        self._line = line
        self._outcome = outcome
        self._payloads = payloads
        self._ours = ours
        self._merged = merged
        self._closure = Closure(store.blobs)
        self._needed: set[Digest] = set()
        self._placing = Placing(store, line.model, State(line.document))
        known = ours.entries() if ours is not None else []
        places = {(entry.version, entry.id) for entry in known}  # one of ours may have moved there
        entries = State(line.document).entries() if outcome not in ("same", "ahead") else []
        here = {entry.id for entry in known}
        self._new = [e for e in entries if e.id is not None and (e.version, e.id) not in places]
        self.pulled = Pulled(
            model=line.model,
            outcome=outcome,
            versions=tuple(str(entry.version) for entry in self._new if entry.id not in here),
            renamed={} if merged is None else merged.renamed,
            said=() if merged is None else tuple(merged.said),
            brought=Brought(),
        )

    def learn(self, *, lazy: bool) -> None:
        """Find out which blobs must be here; takes long, so it is done without the lock."""
        for entry in self._new:
            manifest = self._store.manifest(self._line.model, entry)
            named = {entry.id} if lazy else {entry.id, *manifest.blobs()}
            self._needed |= {digest for digest in named if digest is not None}
        self._closure.of(self._needed)

    def versions(self) -> Sequence[Entry]:
        """Return the entries of the versions that would come, or have another number then."""
        return self._new

    def check_present(self) -> None:
        """Look for every blob once more, and take back what a gc took away.

        Raises:
            ConflictError: one has gone.
        """
        self._closure.refresh()
        absent = self._closure.absent(self._closure.of(self._needed))
        trash = self._store.blobs.trash()
        for digest in self._needed if absent else ():
            if not trash.give_back(digest):
                raise ConflictError(
                    f"blob '{digest}' was removed while it was pulled", "run the command again"
                )
        trash.sync()

    def carry_out(self) -> None:
        """Change our registry; the caller holds the store's lock."""
        if self._outcome in ("same", "ahead"):
            return
        renamed = self._renamed()
        for entry in (*self._new_places(), *renamed.values()):
            self._placing.check(entry)
        values = {str(e.version): self._placing.rename(old, e) for old, e in renamed.items()}
        for entry in self._new:
            self._placing.put(entry)
        model = self._line.model
        if self._outcome == "forward":
            chains.extend(self._store, model, self._payloads)
        elif self._merged is None:
            chains.follow(self._store, model, self._line.document, self._payloads)
        else:
            change = self._merged.change
            change = replace(change, versions={**change.versions, **values})
            record, payload = make_record(State(self._line.document), change, now())
            after = apply(self._line.document, record, digest_of(payload))
            chains.follow(self._store, model, after, [*self._payloads, payload])

    def _renamed(self) -> dict[str, Entry]:
        """Return our versions that get another number, as they will be, by the one they have."""
        if self._merged is None:
            return {}
        after = apply(
            self._line.document, {"seq": 0, "versions": self._merged.change.versions}, _NONE
        )
        found = {}
        for old, new in self._merged.renamed.items():
            entry = State(after).entry(new)
            if entry is not None:
                found[old] = entry
        return found

    def _new_places(self) -> list[Entry]:
        """Return their versions whose directory does not lie where one of ours still is."""
        renamed = self._merged.renamed if self._merged is not None else {}
        return [entry for entry in self._new if str(entry.version) not in renamed]


_NONE = Digest("0" * 64)

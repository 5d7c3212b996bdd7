"""From a ref, as typed, to the one version it means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelstore.errors import AmbiguousError, NotFoundError, StoreError
from modelstore.hashing import Digest
from modelstore.names import (
    ACTIVE,
    ModelName,
    Ref,
    digest_prefix,
    is_version,
    parse_model,
    parse_ref,
)
from modelstore.ops.gone import removed_entry, was_removed
from modelstore.registry import VIEW
from modelstore.state import Entry, State
from modelstore.store import Store, model_of_path


@dataclass(frozen=True, slots=True)
class Context:
    """What fills in the model that a bare ref leaves out.

    Attributes:
        model: from ``-M`` or ``MSTORE_MODEL``, or None.
        directory: where the user is.
    """

    model: ModelName | None = None
    directory: Path | None = None


NOWHERE = Context()
"""No hint at all: only full refs, and those that fit one model, resolve."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A version of a model."""

    model: ModelName
    entry: Entry

    def __str__(self) -> str:
        return f"{self.model}@{self.entry.version}"

    @property
    def id(self) -> Digest | None:
        """The digest of the version's manifest; None where it is missing."""
        return self.entry.id


def resolve(store: Store, text: str, context: Context = NOWHERE) -> Resolved:
    """Return the version that ``text`` means.

    A bare ref is looked up in the model of the context; else in the model whose directory the user
    is in; else in the only model that has it; else in the default model.

    Raises:
        BadNameError: ``text`` is not a ref.
        NotFoundError: no version has that name.
        AmbiguousError: several have, and nothing says which is meant.
    """
    ref = parse_ref(text)
    if ref.model is None and not ref.steps and ref.base in store.models() and not is_version(text):
        ref = Ref(parse_model(ref.base), ACTIVE)
    model = said_model(store, ref, context)
    return _anywhere(store, ref) if model is None else _in_model(store, model, ref)


def said_model(store: Store, ref: Ref, context: Context) -> ModelName | None:
    """Return the model that a ref names, or that is meant where it names none; None for any.

    Raises:
        NotFoundError: there is no such model.
    """
    model = ref.model or context.model or _model_here(store, context)
    return None if model is None else _known(store, model)


def resolve_model(store: Store, context: Context = NOWHERE) -> ModelName:
    """Return the model that a command without a ref is about.

    Raises:
        NotFoundError: the store has no model yet.
        AmbiguousError: it has several, and nothing says which is meant.
    """
    model = context.model or _model_here(store, context)
    if model is not None:
        return _known(store, model)
    models = [m for m in store.models() if store.state(m).document["versions"]]
    if len(models) == 1:
        return models[0]
    default = default_model(store)
    if default is not None:
        return default
    if not models:
        raise NotFoundError(
            "the store has no versions yet", "mstore commit PATH -m MESSAGE -M MODEL"
        )
    raise AmbiguousError(
        f"which model? The store has {', '.join(models)}",
        f"say -M {models[0]}, or: mstore use MODEL",
    )


def default_model(store: Store) -> ModelName | None:
    """Return the model of ``mstore use``, else the one last committed to, if it still exists."""
    config = store.config()
    for key in ("default_model", "last_model"):
        name = config.get(key)
        if isinstance(name, str) and name in store.models():
            return parse_model(name)
    return None


def _model_here(store: Store, context: Context) -> ModelName | None:
    if context.directory is None:
        return None
    found = model_of_path(store, context.directory)
    return found[0] if found and store.registry(found[0]).exists() else None


def _known(store: Store, model: ModelName) -> ModelName:
    registry = store.registry(model)
    if registry.exists():
        return model
    if registry.is_foreign():
        raise NotFoundError(
            f"'{store.root / model / VIEW}' was not made by mstore",
            "take it over with: mstore adopt",
        )
    known = ", ".join(store.models()) or "none"
    raise NotFoundError(f"there is no model {model!r} (there is: {known})", "run: mstore list")


def _anywhere(store: Store, ref: Ref) -> Resolved:
    found: list[Resolved] = []
    misses: list[StoreError] = []
    for model in store.models():
        if not store.state(model).document["versions"]:
            continue  # a line without versions never makes a ref ambiguous
        try:
            found.append(_in_model(store, model, ref))
        except AmbiguousError:
            raise
        except NotFoundError as error:
            misses.append(error)
    if len(found) == 1:
        return found[0]
    if not found:
        if len(misses) == 1:
            raise misses[0]
        raise _nowhere(store, ref)
    default = default_model(store)
    for resolved in found:
        if resolved.model == default:
            return resolved
    names = ", ".join(f"{resolved.model}@{ref}" for resolved in found)
    raise AmbiguousError(
        f"{str(ref)!r} could be {names}", f"say {found[0].model}@{ref}, or: mstore use MODEL"
    )


def _nowhere(store: Store, ref: Ref) -> NotFoundError:
    for model in store.models():
        removed = removed_entry(store.state(model), ref.base)
        if removed is not None:
            return was_removed(model, removed)
    return NotFoundError(f"no model has a version {str(ref)!r}", "run: mstore log")


def _in_model(store: Store, model: ModelName, ref: Ref) -> Resolved:
    state = store.state(model)
    steps = list(ref.steps)
    moves = steps.pop(0)[1] if steps and steps[0][0] == "@" else 0
    entry = _pointer(model, state, ref.base, moves) if moves else _base(model, state, ref.base)
    for kind, count in steps:
        if kind == "@":
            raise NotFoundError(f"only a pointer has a history, as in ACTIVE@{{1}}: {ref}")
        entry = _ancestor(model, state, entry, kind, count, ref)
    return Resolved(model, entry)


def _base(model: ModelName, state: State, base: str) -> Entry:
    word = base.lower()
    if word in {"active", "head"}:
        return _active(model, state)
    if word == "latest":
        return _best(model, state.entries())
    if word == "greatest":
        entries = sorted(state.entries(), key=lambda entry: entry.version)
        return _best(model, [entry for entry in entries if not entry.version.pre] or entries)
    entry = state.entry(base) or state.entry(state.aliases.get(base, ""))
    if entry is not None:
        return entry
    removed = removed_entry(state, base)
    if removed is not None:
        raise was_removed(model, removed)
    if is_version(base):
        raise NotFoundError(f"{model} has no version {base!r}", f"run: mstore log {model}")
    return _by_digest(model, state, base)


def _best(model: ModelName, entries: list[Entry]) -> Entry:
    if not entries:
        raise NotFoundError(
            f"{model} has no versions yet", f"mstore commit PATH -m MESSAGE -M {model}"
        )
    return entries[-1]


def _active(model: ModelName, state: State) -> Entry:
    entry = state.entry(state.active)
    if entry is None:
        _best(model, state.entries())
        raise NotFoundError(f"{model} has no ACTIVE version", f"mstore set-active {model}@latest")
    return entry


def _pointer(model: ModelName, state: State, base: str, moves: int) -> Entry:
    if base.lower() not in {"active", "head"}:
        raise NotFoundError(f"{base!r} has no history, only ACTIVE has: {base}@{{{moves}}}")
    history = state.history
    if moves >= len(history):
        moved = len(history) - 1
        often = f"moved only {moved} time{'s' if moved > 1 else ''}" if moved > 0 else "never moved"
        raise NotFoundError(
            f"there is no ACTIVE@{{{moves}}} of {model}: ACTIVE {often}",
            f"run: mstore active {model} --history",
        )
    version = str(history[-1 - moves]["version"])
    entry = state.entry(version)
    if entry is None:
        raise NotFoundError(
            f"ACTIVE@{{{moves}}} of {model} was {version}, which was removed",
            f"bring it back with: mstore undelete {model}@{version}",
        )
    return entry


def _by_digest(model: ModelName, state: State, base: str) -> Entry:
    prefix = digest_prefix(base)
    found = [e for e in state.entries() if prefix and e.id and e.id.startswith(prefix)]
    if not found:
        raise NotFoundError(
            f"{model} has no version, alias or digest {base!r}", f"run: mstore log {model}"
        )
    if len({entry.id for entry in found}) > 1:
        names = ", ".join(f"{entry.version} ({str(entry.id)[:12]})" for entry in found)
        raise AmbiguousError(f"the digest prefix {base!r} fits {names}", "give more digits")
    return found[-1]


def _ancestor(
    model: ModelName, state: State, entry: Entry, kind: str, count: int, ref: Ref
) -> Entry:
    by_id = {e.id: e for e in reversed(state.entries())}
    for _ in range(count if kind == "~" else 1):
        nth = 1 if kind == "~" else count
        if nth == 0:
            return entry
        if len(entry.parents) < nth:
            asked = ref if ref.model else f"{model}@{ref}"
            which = {1: "parent", 2: "second parent"}.get(nth, f"parent {nth}")
            raise NotFoundError(
                f"there is no {asked}: {model}@{entry.version} has no {which}",
                f"run: mstore log --graph {model}@{entry.version}",
            )
        parent = by_id.get(entry.parents[nth - 1])
        if parent is None:
            removed = removed_entry(state, entry.parents[nth - 1])
            if removed is not None:
                raise was_removed(model, removed)
            raise NotFoundError(
                f"the parent of {model}@{entry.version} is not a version of {model}",
                f"run: mstore show {model}@{entry.version}",
            )
        entry = parent
    return entry

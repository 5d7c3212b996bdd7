"""What a store promises, and whether one that was crashed, cut off or starved keeps it.

A store is looked at as a set of facts: which versions there are, what ACTIVE and the aliases mean,
what is checked out where. While a command runs every fact may be as before it or as after it;
once the command has said that it is done, only as after it. And whatever is listed is whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from modelstore.errors import IntegrityError, StoreError
from modelstore.hashing import Digest, digest_of
from modelstore.names import ModelName
from modelstore.ops import working
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.pointer import set_alias
from modelstore.ops.resolve import Resolved
from modelstore.ops.verify import verify
from modelstore.registry import JOURNAL, VIEW, Registry
from modelstore.state import State
from modelstore.store import Store, is_store

Facts = Mapping[str, str]

STORE = "store"
"""The name of the store in the directory that a scene plays in."""

DAMAGED = "damaged"

PROBE = "after-the-crash"
"""An alias that is set, and a model that is committed to, to see whether the store takes changes."""

AT_REST = "at rest: "
"""How a fact begins that may be anything while a command runs."""


def facts(world: Path) -> Facts:
    """Return what the store in ``world`` says, by the names of what it is said of."""
    root = world / STORE
    if not is_store(root):
        return {}
    store = Store(root)
    found = {"store": "open"}
    default = store.config().get("default_model")
    if default:
        found["default model"] = str(default)
    for model in store.models():
        found |= _of_model(store, model)
    for known in working.checkouts(store, partial=True):
        place = known.path.relative_to(world.resolve())
        found[f"{AT_REST}checkout {place}"] = f"{known.model}@{known.version}"
    for name in ("README.md", ".gitignore", ".mstore/format.json"):
        if (root / name).exists():
            found[f"file {name}"] = digest_of((root / name).read_bytes())
    return found | {f"{AT_REST}{what}": value for what, value in _at_rest(world, store).items()}


def _at_rest(world: Path, store: Store) -> dict[str, str]:
    """Return which frames there are, how large, and what lies in the trash and in checkouts."""
    sizes = {one: store.blobs.path(one).stat().st_size for one in _blobs(store)}
    found = {"frames": digest_of(json.dumps(sizes).encode())}
    trash = store.meta / "trash"
    quarantine = store.meta / "quarantine"
    for directory in (trash, quarantine, world / "out", *store.root.glob("*/v*")):
        names = (path.relative_to(directory).as_posix() for path in directory.rglob("*"))
        told = (name for name in names if not name.startswith(".mstore-"))  # the next one sweeps
        listed = sorted(re.sub(r"\b[0-9a-f]{8}\b", "*", name) for name in told)
        if listed:
            found[directory.relative_to(world).as_posix()] = " ".join(listed)
    return found


def _of_model(store: Store, model: ModelName) -> dict[str, str]:
    registry, state = store.registry(model), store.state(model)
    found = {f"model {model}": "listed", f"active {model}": state.active}
    for version in state.versions():
        entry = state.entry(str(version))
        assert entry is not None
        found[f"version {model}@{version}"] = str(entry.id)
        found[f"notes {model}@{version}"] = entry.text("notes")
    found |= {f"alias {model} {name}": value for name, value in state.aliases.items()}
    found[f"edited views {model}"] = str(len(set(registry.edited_views())))
    rows = [row["seq"] for row in registry.journal()]
    found[f"journal {model}"] = "whole" if rows == list(range(1, len(rows) + 1)) else f"{rows}"
    view = registry.directory / VIEW
    if view.exists():
        found[f"{AT_REST}view {model}"] = _view(view.read_bytes())
    found[f"{AT_REST}records {model}"] = _records(store, model)
    return found


def _view(data: bytes) -> str:
    """Return what a script reads that opens `model_registry.json`, as old tools do."""
    try:
        value = json.loads(data)
    except ValueError:
        return DAMAGED
    return f"{value['active_version']} of {' '.join(sorted(value['versions']))}"


def _records(store: Store, model: ModelName) -> str:
    """Return what refs/ says without the files that Git or an editor may take away beside it."""
    meta = store.meta
    alone = Registry(model, store.root / "gone", meta / "refs" / model, meta / "adopted")
    try:
        return _summary(alone.state()) if alone.has_records() else "absent"
    except IntegrityError:
        return DAMAGED


def _summary(state: State) -> str:
    return f"{state.seq}: {state.active} of {' '.join(map(str, state.versions()))}"


def _blobs(store: Store) -> list[Digest]:
    return list(store.blobs.iter_digests()) if (store.meta / "blobs").is_dir() else []


def broken(world: Path, *, directories: bool) -> set[str]:
    """Return the versions that are listed and cannot be had whole, and the frames that are damaged.

    Args:
        directories: count those, too, whose files are fine in the store and not where they are
            checked out; while a command runs that is nothing wrong.
    """
    root = world / STORE
    if not is_store(root):
        return set()
    store = Store(root)
    damaged = {f"blob {one}" for one in _blobs(store) if not _is_intact(store, one)}
    return damaged | {
        str(one)
        for model in store.models()
        for entry in store.state(model).entries()
        if entry.id is not None and _is_broken(store, one := Resolved(model, entry), directories)
    }


def _is_intact(store: Store, digest: Digest) -> bool:
    try:
        store.blobs.check(digest)
    except StoreError:
        return False
    return True


def _is_broken(store: Store, version: Resolved, directories: bool) -> bool:
    return any(
        directories or problem.directory is None or problem.file == "manifest.json"
        for problem in verify(store, version).problems
    )


def violations(
    world: Path,
    allowed: Iterable[Facts],
    excused: set[str],
    *,
    done: bool,
    at_rest: bool | None = None,
) -> list[str]:
    """Return what is wrong with the store in ``world``, one sentence each.

    Args:
        allowed: what may be the case: before and after the command that was under way.
        excused: versions that were broken before.
        done: no command was under way, so what is checked out must be right, too.
        at_rest: whether also the facts count that may be anything while a command runs; None: if
            it is done.
    """
    if at_rest is None:
        at_rest = done
    try:
        found = facts(world)
        bad = broken(world, directories=done) - excused
    except StoreError as error:
        return [f"the store cannot be read: {error}"]
    allowed = list(allowed)
    wrong = [f"{version} is there and broken" for version in sorted(bad)]
    names = {*found, *(name for each in allowed for name in each)}
    for name in sorted(names):
        if name.startswith(AT_REST) and not at_rest and found.get(name) != DAMAGED:
            continue
        if found.get(name) not in {each.get(name) for each in allowed}:
            wrong.append(f"{name} is {found.get(name)!r}")
    return wrong


def refusals(world: Path) -> list[str]:
    """Change every model of the store in ``world``, and commit; return what went wrong.

    After the changes the journal holds every change there ever was.
    """
    if not is_store(world / STORE):
        return []  # whether there must be one is for `facts` to say
    wrong = []
    try:
        store = Store(world / STORE)
        for model in store.models():
            state = store.state(model)
            newest = state.newest_stored()
            if newest is not None:
                set_alias(store, PROBE, Resolved(model, newest))
                wrong += _holes(store, model)
        probe = world / "probe.txt"
        probe.write_text("still here", encoding="utf-8")
        done = commit(store, probe, ModelName(PROBE), CommitOptions())
        wrong += sorted(broken(world, directories=False) & {f"{done.model}@{done.version}"})
    except StoreError as error:
        wrong.append(f"the store takes no change: {error}")
    return wrong


def _holes(store: Store, model: ModelName) -> list[str]:
    rows = [row["seq"] for row in store.registry(model).journal()]
    seq = store.state(model).seq
    if rows == list(range(1, seq + 1)):
        return []
    return [f"the {JOURNAL} of {model} has the changes {rows} of {seq}"]

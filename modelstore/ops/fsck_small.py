"""Checking what lies around the frames and registries: settings, small files, names, leftovers."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from modelstore import disk
from modelstore.canonical import line, parse_mapping
from modelstore.errors import IntegrityError
from modelstore.hashing import digest_of
from modelstore.manifest import Manifest
from modelstore.names import ModelName, is_model, is_version, path_key
from modelstore.ops.card import README, SMALL
from modelstore.ops.debris import debris
from modelstore.ops.findings import Affected, Finding
from modelstore.ops.publish import is_leftover
from modelstore.ops.resolve import Resolved
from modelstore.reading import read_if_readable
from modelstore.state import State
from modelstore.store import MANIFEST, META, Store, format_text

_MODELS = {"default_model", "last_model"}
_SETTINGS = _MODELS | {"remotes", "lazy", "cloning"}


def check_settings(store: Store) -> Iterator[Finding]:
    """Yield what is wrong with format.json and config.json."""
    data = read_if_readable(store.meta / "format.json")
    name = f"{META}/format.json"
    if data is None and (store.meta / "blobs").is_dir():
        yield Finding("format", name, "is missing")
    elif data is not None and data != format_text():
        yield Finding("format", name, "is not as mstore wrote it: it was edited, or is damaged")
    data = read_if_readable(store.meta / "config.json")
    if data is not None and not _is_config(store, data):
        what = "is not as mstore wrote it, or names a model that does not exist"
        yield Finding("format", f"{META}/config.json", what)


def _is_config(store: Store, data: bytes) -> bool:
    try:
        value = parse_mapping(data, "config.json")
    except IntegrityError:
        return False
    if set(value) - _SETTINGS or data != line(value).encode("utf-8") + b"\n":
        return False
    return all(_is_setting(store, key, said) for key, said in value.items())


def _is_setting(store: Store, key: str, said: object) -> bool:
    if key in _MODELS:
        return is_model(str(said)) and (store.root / str(said)).is_dir()
    return isinstance(said, dict if key == "remotes" else str)


def mend_settings(store: Store) -> None:
    """Write format.json anew, and take out of config.json what is not so."""
    with store.lock():
        if read_if_readable(store.meta / "format.json") != format_text():
            disk.replace(store.meta / "format.json", format_text())
        path = store.meta / "config.json"
        data = read_if_readable(path)
        if data is None or _is_config(store, data):
            return
        value = {k: v for k, v in store.config().items() if k in _SETTINGS}
        kept = {key: said for key, said in value.items() if _is_setting(store, key, said)}
        disk.replace(path, line(kept).encode("utf-8") + b"\n")


# --- the small files of a version


def check_small_files(store: Store, resolved: Resolved, manifest: Manifest) -> Iterator[Finding]:
    """Yield what is wrong with manifest.json, model_info.json and README.md of a version.

    A README.md is there to be edited, and so are files that are the version's own: that is a note.
    """
    directory = store.version_dir(resolved.model, resolved.entry.version)
    generated = resolved.entry.mapping("generated")
    for name in SMALL:
        own = manifest.file(name)
        if own is not None:
            continue  # content, which `status` and `verify` compare
        expected = resolved.id if name == MANIFEST else generated.get(name)
        data = read_if_readable(directory / name)
        if expected is None or (data is not None and digest_of(data) == expected):
            continue
        what = "is missing" if data is None else "is not what mstore wrote: edited, or damaged"
        where = f"{resolved.model}/{resolved.entry.version}/{name}"
        affected = (Affected(str(resolved), name),)
        yield Finding("file", where, what, serious=name != README, affected=affected)


# --- names and leftovers


def check_names(store: Store) -> Iterator[Finding]:
    """Yield a note for names that are one name where case or Unicode form does not count."""
    for directory in (store.root, *_model_dirs(store)):
        alike: defaultdict[str, list[str]] = defaultdict(list)
        for name in sorted(os.listdir(directory)):
            alike[path_key(name)].append(name)
        for names in alike.values():
            if len(names) > 1:
                shown = ", ".join(repr(name) for name in names)
                what = f"are one name on other systems: {shown}"
                where = str(directory.relative_to(store.root))
                yield Finding("name", where, what, serious=False)


def check_leftovers(store: Store, states: dict[ModelName, State]) -> Iterator[Finding]:
    """Yield a note for what killed processes left, and for what no registry knows."""
    staged = [path for path in (store.meta / "tmp").glob("*") if path.is_dir()]
    for path in staged:
        yield _note(store, path, "is the staging of a process that is at work, or was killed")
    for path in debris(store) if (store.meta / "refs").is_dir() else ():
        yield _note(store, path, "was left half written by a killed process")
    for model, state in states.items():
        yield from _orphans(store, model, state)
    for name in ("trash", "quarantine"):
        directory = store.meta / name
        count = len(os.listdir(directory)) if directory.is_dir() else 0
        if count:
            yield _note(store, directory, f"holds what was taken out of use: {count}")


def _orphans(store: Store, model: ModelName, state: State) -> Iterator[Finding]:
    directory = store.root / model
    removed = {str(version) for version in state.removed()}
    for name in sorted(os.listdir(directory)) if directory.is_dir() else ():
        if not (is_version(name) and name[0] == "v" and (directory / name).is_dir()):
            continue
        if state.entry(name) is not None or name in removed:
            continue
        what = "is a version that no registry knows; take it over with: mstore adopt"
        if is_leftover(directory / name):
            what = "was left by a commit that was killed; the next one takes it away"
        yield _note(store, directory / name, what)


def _model_dirs(store: Store) -> list[Path]:
    found = (path for path in store.root.iterdir() if path.is_dir() and is_model(path.name))
    return sorted(path for path in found if path.name != META)


def _note(store: Store, path: Path, what: str) -> Finding:
    return Finding("leftover", str(path.relative_to(store.root)), what, serious=False)

"""What a run starts from: found by the name that a user gave it, and laid out as a directory.

A name is, in this order: a directory, a GGUF file, a ref of the store (it has an "@"), what Ollama
calls a model (it has a ":"; looked up in Ollama's own store, else mapped to the Hub), or an id of
the Hugging Face Hub.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

from modelstore import disk
from modelstore.errors import NotFoundError, UsageError
from modelstore.names import ModelName
from modelstore.ops import ollama, working
from modelstore.ops.checkout import checkout
from modelstore.ops.place import RUNS, STARTED_FROM
from modelstore.ops.resolve import Context, Resolved, resolve
from modelstore.progress import Progress, silent
from modelstore.store import Store
from modelstore.training import gguf, hub
from modelstore.training.base import Base, is_carried, open_base

_KINDS = "a directory, a .gguf file, a ref, a name of Ollama's or an id of the Hugging Face Hub"


@dataclass(frozen=True, slots=True)
class Start:
    """What a run starts from; one of ``version``, ``directory``, ``gguf`` and ``hub`` is there.

    Attributes:
        name: as the user spells it, for people and for the registry.
        version: a version of the store.
        directory: a directory that transformers can load.
        gguf: a GGUF file, to be dequantised.
        hub: an id of the Hub, to be downloaded.
    """

    name: str
    version: Resolved | None = None
    directory: Path | None = None
    gguf: Path | None = None
    hub: str = ""


def find_start(
    store: Store, model: ModelName, source: str, base: str, places: Sequence[Path] = ()
) -> Start:
    """Return what a run of ``model`` starts from; nothing is downloaded or converted.

    Args:
        source: a ref, or "".
        base: any of the names that the module tells of, or "". With neither it is the line's
            ACTIVE version, else the model the line was set up with.
        places: Ollama's stores.

    Raises:
        UsageError: both are given, there is neither, or it is no model.
        NotFoundError: there is nothing of that name.
    """
    if source and base:
        raise UsageError("--from and --base exclude each other", "leave one of them out")
    if source:
        version = resolve(store, source, Context(model=model))
        return Start(str(version), version=version)
    if base:
        return _named(store, model, base, places)
    registry = store.registry(model)
    state = registry.state() if registry.exists() else None
    if state is not None and state.active:
        version = resolve(store, f"{model}@ACTIVE")
        return Start(str(version), version=version)
    if state is None or not state.base_model:
        raise UsageError(
            f"{model} has no version to start from, and no base is recorded for it",
            f"name one: mstore train {model} --base DIR --data FILE",
        )
    return _named(store, model, state.base_model, places)


def _named(store: Store, model: ModelName, name: str, places: Sequence[Path]) -> Start:
    path = Path(name)
    if path.is_dir():
        open_base(path)
        return Start(name, directory=path)
    if path.is_file():
        return _file(name, path)
    if "@" in name:
        version = resolve(store, name, Context(model=model))
        return Start(str(version), version=version)
    if ollama.is_name(name) or "/" not in name:
        found = ollama.find(name, places)
        if found is not None:
            return Start(name, gguf=found)
    _check_could_be_on_the_hub(name, path)
    directory = hub.cached(name)
    if directory is not None:
        return Start(name, directory=directory)
    return Start(name, hub=hub.hub_id(name))


def _file(name: str, path: Path) -> Start:
    if not gguf.is_gguf(path):
        raise UsageError(f"'{path}' is no GGUF file", f"a base is {_KINDS}: --base DIR")
    return Start(name, gguf=path)


def _check_could_be_on_the_hub(name: str, path: Path) -> None:
    if ollama.is_name(name) and hub.hub_id(name) == name:
        raise NotFoundError(
            f"Ollama has no model {name!r} here, and mstore does not know where the Hub has it",
            f"ollama pull {name}, or name a directory: --base DIR",
        )
    is_id = hub.is_hub_id(hub.hub_id(name))
    if not is_id or (name.count("/") == 1 and path.parent.is_dir()):
        raise NotFoundError(f"there is no directory '{name}'", f"a base is {_KINDS}: --base DIR")


def lay_out(store: Store, start: Start, place: Path, progress: Progress) -> Path:
    """Return the directory of what a run starts from, made in ``place`` unless there is one.

    Args:
        place: the run's own directory. What was laid out there before is taken as it is.

    Raises:
        RemoteError: it cannot be downloaded.
        UsageError: a GGUF file cannot be turned into a model that can be trained.
    """
    if start.directory is not None:
        return start.directory
    if start.hub:
        return hub.download(start.hub)
    target = place / "base"
    if target.is_dir():
        return target
    disk.make_dir(place)
    unfinished = place / "base.unfinished"
    disk.remove_tree(unfinished)
    if start.gguf is not None:
        progress("convert", 0, 0)
        gguf.dequantise(start.gguf, unfinished)
    elif start.version is not None:
        disk.replace(place / STARTED_FROM, f"{start.version}\n".encode())
        checkout(store, start.version, output=unfinished, progress=progress)
        working.forget(store, unfinished)  # nobody edits what lies in a run
    disk.rename(unfinished, target)
    return target


@contextmanager
def laid_out(store: Store, start: Start, progress: Progress = silent) -> Iterator[Path]:
    """Give the directory of what a run would start from, for the length of the block."""
    place = store.meta / RUNS / f"look-{os.urandom(6).hex()}"
    try:
        yield lay_out(store, start, place, progress)
    finally:
        disk.remove_tree(place)


@contextmanager
def looked_at(store: Store, start: Start) -> Iterator[Base | None]:
    """Give what is known of a base without its weights; None where that is not known so quickly.

    Of a version its small files are written out, and what tensors it has tells the manifest.
    """
    if start.directory is not None:
        yield open_base(start.directory)
    elif start.version is None:
        yield None
    else:
        place = store.meta / RUNS / f"look-{os.urandom(6).hex()}"
        try:
            yield _without_weights(store, start.version, place)
        finally:
            disk.remove_tree(place)


def _without_weights(store: Store, version: Resolved, place: Path) -> Base | None:
    manifest = store.manifest(version.model, version.entry)
    small = [file.path for file in manifest.files if is_carried(file.path)]
    if "config.json" not in small:
        return None
    disk.make_dir(place)
    target = checkout(store, version, output=place / "small", files=small).path
    working.forget(store, target)
    spans = {span.blob: tensor for file, span, tensor in manifest.tensors() if "/" not in file.path}
    dtypes = {t.name: t.dtype for file, _, t in manifest.tensors() if "/" not in file.path}
    values = sum(prod(tensor.shape) for tensor in spans.values())
    return Base(target, (), (), dtypes, values)

"""Export of a version's GGUF files as they are, with the Modelfile that Ollama makes a model of."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from modelstore.errors import ConflictError, NotFoundError, UsageError
from modelstore.manifest import FileEntry, Manifest
from modelstore.ops import modelfile, present
from modelstore.ops.export_plan import (
    ExportOptions,
    ExportPlan,
    Small,
    Sorted,
    contents,
    require_outside,
)
from modelstore.ops.resolve import Resolved
from modelstore.reading import read_if_readable
from modelstore.store import Store

NAME = "gguf-passthrough"

_ENDING = ".gguf"
_SHARD = re.compile(r"-(\d{5})-of-\d{5}\.gguf\Z")
_PROJECTOR = re.compile(r"mmproj", re.IGNORECASE)
_ADAPTER = re.compile(r"(adapter|lora)", re.IGNORECASE)
_MOST_MODELFILE = 1 << 20


def plan(store: Store, resolved: Resolved, options: ExportOptions) -> ExportPlan:
    """Return what it takes to have the GGUF files of a version in a directory.

    Args:
        options: ``output`` is a directory, or a file that ends in .gguf where there is but one.

    Raises:
        NotFoundError: it has none, or none of those that are wanted.
        ConflictError: another file would be overwritten, or the directory lies in the store.
    """
    require_outside(store, options.output)
    manifest = contents(store, resolved)
    found = _wanted(resolved, manifest, options)
    places = _places(options.output.absolute(), found)
    files = Sorted()
    for file, path in places:
        files.add(file, path)
    _check_free([path for _, path in files.missing], options)
    root = options.output.absolute()
    root = root if root != places[0][1] else root.parent
    data, warnings = _modelfile(store, resolved, manifest, [(f, p.name) for f, p in places])
    small = Small(root / modelfile.NAME, partial(bytes, data))
    if read_if_readable(small.path, len(data) + 1) != data:
        _check_free([small.path], options)
    return ExportPlan(
        resolved,
        NAME,
        options.output.absolute(),
        root,
        missing=tuple(files.missing),
        kept=tuple(files.kept),
        small=(small,),
        names=tuple(path.name for _, path in places),
        warnings=warnings,
    )


def _wanted(resolved: Resolved, manifest: Manifest, options: ExportOptions) -> list[FileEntry]:
    found = [f for f in manifest.files if f.format == "gguf" or f.path.lower().endswith(_ENDING)]
    if not found:
        raise NotFoundError(
            f"{resolved} has no GGUF file",
            "make one with llama.cpp's convert_hf_to_gguf.py, from the files that this writes: "
            f"mstore export {resolved} --to dir -o DIR; and keep it: mstore import FILE.gguf",
        )
    patterns = options.files
    chosen = [f for f in found if not patterns or any(fnmatchcase(f.path, p) for p in patterns)]
    if not chosen:
        names = ", ".join(file.path for file in found)
        raise NotFoundError(
            f"no GGUF file of {resolved} fits {', '.join(patterns)}", f"has: {names}"
        )
    return chosen


def _places(output: Path, files: Sequence[FileEntry]) -> list[tuple[FileEntry, Path]]:
    if output.suffix.lower() == _ENDING and not output.is_dir():
        if len(files) > 1:
            raise UsageError(
                f"there are {len(files)} GGUF files and one name for them",
                "give a directory, or choose one with --files GLOB",
            )
        return [(files[0], output)]
    places = [(file, output / file.path.rsplit("/", 1)[-1]) for file in files]
    if len({path for _, path in places}) < len(places):
        raise ConflictError(
            "several GGUF files have the same name in different directories",
            "choose one with --files GLOB",
        )
    return places


def _check_free(paths: Sequence[Path], options: ExportOptions) -> None:
    taken = [path for path in paths if os.path.lexists(path)]
    if taken and not options.force:
        raise ConflictError(f"'{taken[0]}' exists, and is another file", "overwrite it with: -f")


def _modelfile(
    store: Store,
    resolved: Resolved,
    manifest: Manifest,
    places: Sequence[tuple[FileEntry, str]],
) -> tuple[bytes, tuple[str, ...]]:
    """Return the version's own Modelfile, byte for byte if it fits; else a new one; and warnings."""
    own = _own_modelfile(store, resolved, manifest)
    whole = [file.path for file in manifest.files if file.path.lower().endswith(_ENDING)]
    if own is not None and sorted(name for _, name in places) == sorted(whole):
        return own, ()
    projectors = [name for file, name in places if _PROJECTOR.search(file.path)]
    others = {*projectors, *(name for _, name in places if _ADAPTER.search(name))}
    models = sorted(name for _, name in places if name not in others)
    first = [n for n in models if not _SHARD.search(n) or int(_SHARD.findall(n)[0]) == 1]
    weights = [*first[:1], *projectors[:1]] or [name for _, name in places[:1]]
    warnings: tuple[str, ...] = ()
    if len(first) > 1:
        said = (
            f"the Modelfile names {first[0]} of {len(first)} models; choose one with --files GLOB"
        )
        warnings = (said,)
    if own is None:
        return modelfile.modelfile(weights).encode("utf-8"), warnings
    text = own.decode("utf-8", "replace")
    return modelfile.with_weights(text, weights).encode("utf-8"), warnings


def _own_modelfile(store: Store, resolved: Resolved, manifest: Manifest) -> bytes | None:
    file = manifest.file(modelfile.NAME)
    if file is None or file.size > _MOST_MODELFILE:
        return None
    present.require(store, resolved)
    return b"".join(store.blobs.read(span.blob, most=span.size) for span in file.spans)

"""The adapter that a version keeps, in a directory of its own beside the weights it was merged into.

It is content like any other file. A merge is stored as its base and the matrices that were added to
it, and those are the adapter's tensors: what such a version costs is its adapter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from modelstore.errors import NotFoundError
from modelstore.manifest import FileEntry, Manifest
from modelstore.ops.resolve import Resolved

DIRECTORY = "adapter"
"""Where in a version its adapter lies, as PEFT saves one."""

CONFIG = f"{DIRECTORY}/adapter_config.json"
"""The file without which there is none."""


def is_of_adapter(file: FileEntry) -> bool:
    """Tell whether a file of a version lies where its adapter does."""
    return file.path.startswith(f"{DIRECTORY}/")


def without_adapter(manifest: Manifest) -> Manifest:
    """Return the manifest of a version as it would be if it kept no adapter."""
    if manifest.file(CONFIG) is None:
        return manifest
    return replace(manifest, files=tuple(f for f in manifest.files if not is_of_adapter(f)))


def files_of(resolved: Resolved, manifest: Manifest) -> tuple[FileEntry, ...]:
    """Return the files of a version's adapter, by their paths within its directory.

    Raises:
        NotFoundError: it has none.
    """
    if manifest.file(CONFIG) is None:
        raise NotFoundError(
            f"{resolved} keeps no adapter; those trained with --method lora do",
            f"list its files: mstore show {resolved}",
        )
    files = [file for file in manifest.files if is_of_adapter(file)]
    paths = names_within([file.path for file in files])
    return tuple(replace(file, path=path) for file, path in zip(files, paths, strict=True))


def names_within(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths of an adapter's files within its directory."""
    return tuple(path.removeprefix(f"{DIRECTORY}/") for path in paths)

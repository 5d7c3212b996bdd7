"""Saves a directory of model files with moonclip, or writes one that was saved.

    python benchmarks/moonclip_files.py STORE save NAME DIRECTORY
    python benchmarks/moonclip_files.py STORE load NAME DIRECTORY

moonclip keeps tensors. The header of a safetensors file, and every other file, is handed to it as
a tensor of bytes, so that the files can be put back as they were. Runs in the peers' environment.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TypeAlias

from moonclip import MoonclipManager
from parts import files, tensors

Given: TypeAlias = dict[str, tuple[list[int], str, bytes]]

_DTYPES = {"BF16": ("bf16", 2), "F16": ("fp16", 2), "F32": ("fp32", 4)}


def save(store: Any, name: str, directory: Path) -> None:
    """Save the files of ``directory``; v1.7 is step 7."""
    given: Given = {}
    for path in files(directory):
        for number, (part, dtype, data) in enumerate(tensors(path)):
            kind, width = _DTYPES.get(dtype, ("uint8", 1))
            given[key(path.name, number, part)] = ([len(data) // width], kind, data)
    store.save_tensors(step=step_of(name), tensors=given, metadata={"version": name})
    store.flush()


def load(store: Any, name: str, directory: Path) -> None:
    """Write the files of what was saved under ``name``."""
    snapshot = next(s for s in store.list_snapshots() if s["step"] == step_of(name))
    found = store.load(snapshot.get("id") or snapshot["snap_id"])
    for part in sorted(found):
        with (directory / part.split("|")[0]).open("ab") as file:
            file.write(found[part])


def key(file: str, number: int, part: str) -> str:
    """Return a name for a tensor that sorts as the tensors of a file lie, and is found again."""
    return f"{file}|{number:06d}|{part}"


def step_of(name: str) -> int:
    """Return the last number of a version."""
    return int(name.rpartition(".")[2])


def main() -> None:
    root, verb, name, directory = sys.argv[1:]
    store = MoonclipManager(root, async_save=False, max_full_snapshots=100)
    (save if verb == "save" else load)(store, name, Path(directory))


if __name__ == "__main__":
    main()

"""Reading files: what is known of them spares hashing, and never lies."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from modelstore.manifest import FileEntry
from modelstore.ops.scan import scan
from modelstore.ops.tree import Found
from modelstore.progress import silent

_SIZE = 40


def _written(path: Path, changed: int | None = None) -> Found:
    tensors = {f"t{number}": np.full(_SIZE, number, "<f4") for number in range(4)}
    if changed is not None:
        tensors[f"t{changed}"][1] = 0.5
    path.write_bytes(save(tensors))
    return Found(path.name, path, path.stat().st_size, executable=False)


def _scanned(found: Found, known: FileEntry | None = None) -> FileEntry:
    return scan([found], silent, {found.path: known} if known else None)[0].entry


@pytest.mark.parametrize("changed", [None, 0, 1, 3])
def test_what_is_known_changes_no_digest(tmp_path: Path, changed: int | None):
    """A file that equals what is known, or differs in any tensor, has the digests of its bytes."""
    known = _scanned(_written(tmp_path / "model.safetensors"))
    entry = _scanned(_written(tmp_path / "model.safetensors", changed), known)
    data = (tmp_path / "model.safetensors").read_bytes()
    assert entry == _scanned(_written(tmp_path / "model.safetensors", changed))
    assert entry.sha256 == hashlib.sha256(data).hexdigest()
    assert (entry == known) == (changed is None)


def test_only_what_differs_is_hashed_anew(tmp_path: Path):
    """The other digests of an unchanged file are taken over, not computed."""
    found = _written(tmp_path / "model.safetensors")
    known = replace(_scanned(found), sha256="0" * 64)
    assert _scanned(found, known).sha256 == "0" * 64


def test_a_file_that_is_cut_differently_is_hashed(tmp_path: Path):
    """That the first spans are as they were is not enough."""
    found = _written(tmp_path / "model.safetensors")
    entry = _scanned(found)
    known = replace(entry, spans=entry.spans * 2, sha256="0" * 64)
    assert _scanned(found, known) == entry

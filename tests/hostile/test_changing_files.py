"""Files that change while they are being committed: one consistent state, or a refusal (I08)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from modelstore.errors import ConflictError, StoreError
from modelstore.names import parse_model
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import resolve
from modelstore.ops.scan import scan
from modelstore.ops.tree import walk
from modelstore.progress import silent
from modelstore.store import Store, create

MODEL = parse_model("m")
Change = Callable[[Path], None]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return create(tmp_path / "store")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A model of three files, old enough that no change hides in the clock's granularity."""
    directory = tmp_path / "in"
    directory.mkdir()
    for name in ("a.txt", "z.txt"):
        (directory / name).write_bytes(b"old " * 1000)
    (directory / "m.safetensors").write_bytes(weights(1))
    for path in directory.iterdir():
        os.utime(path, ns=(10**18, 10**18))
    return directory


def weights(seed: int) -> bytes:
    """Return a small safetensors file; all are of one size."""
    generator = np.random.default_rng(seed)
    return save({f"t{n}": generator.normal(size=2000).astype("<f4") for n in range(4)})


def rewrite_in_place(path: Path) -> None:
    """Write other bytes of the same number, and set the time of modification back."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(bytes(255 - b for b in path.read_bytes()))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(path: Path) -> None:
    """Put another file of the same size and time in its place."""
    status = path.stat()
    new = path.with_suffix(".new")
    new.write_bytes(bytes(status.st_size))
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)


def grow(path: Path) -> None:
    """Append to it."""
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    """Cut it."""
    os.truncate(path, 100)


def remove(path: Path) -> None:
    """Take it away."""
    path.unlink()


CHANGES = [rewrite_in_place, replace, grow, shrink, remove]
STAGES = ["hash", "store"]


def contents(directory: Path) -> dict[str, bytes]:
    """Return what a directory holds."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def committed(store: Store, tree: Path, progress: Callable[[str, int, int], None]) -> bool:
    """Commit, and tell whether that was not refused; a refusal leaves no version."""
    before = len(store.state(MODEL).versions()) if store.models() else 0
    try:
        commit(store, tree, MODEL, CommitOptions(), progress)
    except StoreError:
        after = len(store.state(MODEL).versions()) if store.models() else 0
        assert after == before
        return False
    return True


def stored(store: Store, directory: Path) -> dict[str, bytes]:
    """Return the newest version as it comes out."""
    checkout(store, resolve(store, "m@latest"), output=directory)
    return contents(directory)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("step", range(1, 5))
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", ["a.txt", "m.safetensors", "z.txt"])
def test_one_file_that_changes_at_any_moment(
    store: Store, tree: Path, tmp_path: Path, change: Change, step: int, stage: str, name: str
) -> None:
    """What is committed is what the directory held before, or after; else it is refused."""
    before, calls = contents(tree), 0
    states = [before]

    def progress(at: str, _done: int, _total: int) -> None:
        nonlocal calls
        calls += at == stage
        if at == stage and calls == step:
            change(tree / name)
            states.append(contents(tree))

    if committed(store, tree, progress):
        assert stored(store, tmp_path / "out") in states


@pytest.mark.parametrize("second", ["z.txt", "new.txt"])
def test_two_files_that_change_one_after_the_other(
    store: Store, tree: Path, tmp_path: Path, second: str
) -> None:
    """A version never holds one file from before a change and another from after it."""
    before, calls = contents(tree), 0

    def progress(_stage: str, _done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:  # a.txt has been read, the others have not
            grow(tree / "a.txt")
            grow(tree / second)

    if committed(store, tree, progress):
        out = stored(store, tmp_path / "out")
        assert out in (before, contents(tree))


def test_a_log_that_grows_all_the_time_is_no_obstacle(store: Store, tree: Path, tmp_path: Path):
    """A file that changes after it was read, alone, leaves the moment of its reading consistent."""
    before, calls = contents(tree), 0

    def progress(_stage: str, _done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:  # the first is made while it is read
            grow(tree / "a.txt")

    assert committed(store, tree, progress)
    assert stored(store, tmp_path / "out") == before


@pytest.mark.parametrize("step", range(1, 8))
def test_a_file_that_is_compared_with_its_parent_is_read_once(
    store: Store, tree: Path, tmp_path: Path, step: int
) -> None:
    """Where hashing starts anew, as the parent's digests do not fit, it sees the same bytes."""
    assert committed(store, tree, silent)
    (tree / "m.safetensors").write_bytes(weights(1)[:-4] + b"last")
    states, calls = [contents(tree)], 0

    def progress(_stage: str, _done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            rewrite_in_place(tree / "m.safetensors")
            states.append(contents(tree))

    if committed(store, tree, progress):
        assert stored(store, tmp_path / "out") in states


def test_digests_of_a_stranger_are_not_taken_over(tree: Path) -> None:
    """A parent's manifest that lies about a whole file changes nothing of what is committed."""
    from dataclasses import replace as but

    files = walk(tree).files
    entries = {item.entry.path: item.entry for item in scan(files, silent)}
    wrong = {path: but(entry, blake3="0" * 64) for path, entry in entries.items()}
    assert {item.entry.path: item.entry for item in scan(files, silent, wrong)} == entries


def test_a_pipe_in_place_of_a_found_file_is_not_waited_for(tree: Path) -> None:
    """What was a file when it was found and is a pipe when it is read is a change."""
    files = walk(tree).files
    (tree / "a.txt").unlink()
    os.mkfifo(tree / "a.txt")
    with pytest.raises(ConflictError, match="changed"):
        scan(files, silent)

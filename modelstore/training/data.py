"""Training data: files of rows, read strictly, each row knowing the file and line it came from.

`modelstore.training.readers` knows the kinds of files, `modelstore.training.shapes` the shapes of
a row; here is what they come to: rows to learn, rows to evaluate on, and what identifies the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelstore.disk import explained
from modelstore.errors import NotFoundError, UsageError
from modelstore.hashing import Digest, checksum
from modelstore.training.readers import HashedFile, values_of
from modelstore.training.rows import Message, Row
from modelstore.training.shapes import COLUMNS, SHAPES, rows_of

__all__ = ["Data", "DataFile", "Message", "Row", "load_data"]

_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class DataFile:
    """What a version records of a file it was trained on.

    Attributes:
        name: without directories.
        size: in bytes.
        rows: as counted in the file, before conversations are cut into turns.
        blake3: of its bytes.
        path: as it was given.
    """

    name: str
    size: int
    rows: int
    blake3: Digest
    path: str = ""


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of some files, in order, and what identifies those files.

    Attributes:
        rows: what to learn.
        files: that they came from.
        evaluation: rows that are never learned, only evaluated on.
        evaluation_files: that those came from; none where they were split off the others.
        duplicates: rows that are there already, further up; they are kept.
        shared: rows of the evaluation that are also among those to learn.
        ignored: columns that were left out, in alphabetical order.
    """

    rows: tuple[Row, ...]
    files: tuple[DataFile, ...]
    evaluation: tuple[Row, ...] = ()
    evaluation_files: tuple[DataFile, ...] = ()
    duplicates: int = 0
    shared: int = 0
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Loaded:
    """One file: the rows of each of its values, the file itself, and the columns left out."""

    groups: list[list[Row]]
    file: DataFile
    ignored: set[str]


def load_data(
    paths: Sequence[Path],
    *,
    evaluation: Sequence[Path] = (),
    split: float = 0.0,
    seed: int = 42,
) -> Data:
    """Read the files at ``paths``, in that order.

    Args:
        evaluation: files of rows to evaluate on.
        split: instead of those, the share of the rows that is set aside for it. Which ones follows
            from what they say and the seed, not from where they stand; equal rows stay together,
            and so do the turns of a conversation.
        seed: of that choice.

    Raises:
        NotFoundError: one of the files does not exist.
        UsageError: one is of no known kind, or a line of it is wrong (the message names the line);
            or what is to be split off is no share, or leaves nothing to learn.
    """
    if not paths:
        raise UsageError("no data to train on", "name a file: mstore train MODEL --data FILE")
    _check_split(split, bool(evaluation))
    loaded = [_load_file(path) for path in paths]
    beside = [_load_file(path) for path in evaluation]
    groups = [group for one in loaded for group in one.groups]
    aside = [group for one in beside for group in one.groups]
    if split:
        groups, aside = _split(groups, split, seed)
    rows = tuple(row for group in groups for row in group)
    held = tuple(row for group in aside for row in group)
    keys = {row.key for row in rows}
    return Data(
        rows=rows,
        files=tuple(one.file for one in loaded),
        evaluation=held,
        evaluation_files=tuple(one.file for one in beside),
        duplicates=len(rows) - len(keys),
        shared=sum(row.key in keys for row in held),
        ignored=tuple(sorted(set().union(*(one.ignored for one in loaded + beside)))),
    )


def _load_file(path: Path) -> _Loaded:
    if not path.is_file():
        raise NotFoundError(f"there is no file '{path}'")
    groups: list[list[Row]] = []
    ignored: set[str] = set()
    with explained(path, "read"), open(path, "rb", buffering=_BUFFER) as opened:
        source = HashedFile(opened)
        for line, value in values_of(path, source):
            groups.append(rows_of(value, f"{path}:{line}"))
            ignored |= value.keys() - set(COLUMNS)
        file = DataFile(path.name, source.size, len(groups), source.digest(), str(path))
    if not groups:
        raise UsageError(f"'{path}' has no rows", f"give it rows of one of these shapes: {SHAPES}")
    return _Loaded(groups, file, ignored)


# --- rows that are set aside


def _check_split(split: float, has_evaluation: bool) -> None:
    if split and has_evaluation:
        raise UsageError("--eval and --eval-split exclude each other", "leave one of them out")
    if not 0 <= split < 1:
        raise UsageError(f"eval-split is {split:g}; it is a share of the rows, between 0 and 1")


def _split(
    groups: list[list[Row]], share: float, seed: int
) -> tuple[list[list[Row]], list[list[Row]]]:
    """Return what to learn and what to set aside, both in order; neither is empty."""
    ranks = [_rank(group, seed) for group in groups]
    last = sorted(ranks)[max(round(share * len(groups)), 1) - 1]
    learned = [group for group, rank in zip(groups, ranks, strict=True) if rank > last]
    aside = [group for group, rank in zip(groups, ranks, strict=True) if rank <= last]
    if not learned:
        raise UsageError(
            f"--eval-split {share:g} leaves no row to train on",
            "give more rows, or rows of their own: --eval FILE",
        )
    return learned, aside


def _rank(group: list[Row], seed: int) -> bytes:
    # the last row of a conversation holds all of it
    return checksum(b"%d:%b" % (seed, group[-1].key), 16)

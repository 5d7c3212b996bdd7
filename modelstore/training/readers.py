"""The values in a file of training data, one after the other, each with the line it begins at.

A ``.jsonl`` file has one JSON object per line, a ``.json`` file one array of objects, a ``.csv``
file a first line that names its columns; a ``.txt`` file is one text.
Lines of .jsonl and rows of .csv are read as they are needed; the text of the others is held as a
whole, but never all of its values.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from modelstore.errors import UsageError
from modelstore.hashing import Digest, Hasher
from modelstore.training.shapes import COLUMNS

_DELIMITERS = ",;\t"
"""Of the cells of a .csv file; the one whose first line names most known columns is taken."""

_MAX_CELL = 1 << 30
"""Characters of one cell of a .csv file; Python's own limit, 128 Ki, is less than a long text."""

_SPACE = re.compile(r"[ \t\r\n]*")
_scan = json.JSONDecoder().raw_decode

Values = Iterator[tuple[int, Any]]


class HashedFile:
    """A file that is read once, from beginning to end; its digest is that of what was read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hasher = Hasher()
        self.size = 0

    def lines(self) -> Iterator[bytes]:
        r"""Yield the lines; only ``\n`` ends one, as JSON strings may hold other separators."""
        for line in self._file:
            self._take(line)
            yield line

    def read(self) -> bytes:
        """Return all of it."""
        data = self._file.read()
        self._take(data)
        return data

    def digest(self) -> Digest:
        """Return the BLAKE3 of what was read so far."""
        return self._hasher.digest()

    def _take(self, data: bytes) -> None:
        self._hasher.update(data)
        self.size += len(data)


def values_of(path: Path, file: HashedFile) -> Values:
    """Yield the values of a file with the line that each begins at.

    Args:
        path: its suffix tells the kind; the rest is for messages.

    Raises:
        UsageError: it is of no known kind, or damaged; the message names the line.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"'{path}' is no kind of data file that mstore reads",
            f"name a file that ends in {', '.join(_READERS)}",
        )
    return reader(path, file)


def _text_lines(path: Path, file: HashedFile) -> Iterator[str]:
    for number, line in enumerate(file.lines(), start=1):
        yield _decode(path, line, number)


def _decode(path: Path, raw: bytes, line: int) -> str:
    try:
        return raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        at = line + raw.count(b"\n", 0, error.start)
        raise UsageError(f"{path}:{at}: not UTF-8", "save the file as UTF-8") from error


# --- .jsonl


def _json_lines(path: Path, file: HashedFile) -> Values:
    for number, text in enumerate(_text_lines(path, file), start=1):
        if not text.strip():
            continue
        try:
            yield number, json.loads(text.rstrip("\r\n"))
        except (ValueError, RecursionError) as error:
            raise _not_json(path, number, error) from error


def _not_json(path: Path, line: int, error: Exception) -> UsageError:
    reason = str(error)
    if isinstance(error, json.JSONDecodeError):
        line, reason = line + error.lineno - 1, f"{error.msg} at column {error.colno}"
    return UsageError(f"{path}:{line}: not JSON: {reason}")


# --- .json


def _json_array(path: Path, file: HashedFile) -> Values:
    text = _decode(path, file.read(), 1)
    at = _after_space(text, 0)
    if not text.startswith("[", at):
        line = text.count("\n", 0, at) + 1
        raise UsageError(
            f"{path}:{line}: not an array of rows", "one row per line is a .jsonl file"
        )
    line, counted, at = 1, 0, _after_space(text, at + 1)
    ended = text.startswith("]", at)
    while not ended:
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = _scan(text, at)
        except json.JSONDecodeError as error:
            raise _not_json(path, 1, error) from error
        except (ValueError, RecursionError) as error:
            raise _not_json(path, line, error) from error
        yield line, value
        at, ended = _after_item(path, text, at)
    _expect(path, text, _after_space(text, at + 1), len(text), "the end of the file")


def _after_item(path: Path, text: str, at: int) -> tuple[int, bool]:
    """Return where the next item of the array begins, or its end, and whether it is the end."""
    at = _after_space(text, at)
    if text.startswith("]", at):
        return at, True
    _expect(path, text, at, text.find(",", at, at + 1), "a comma or ]")
    return _after_space(text, at + 1), False


def _expect(path: Path, text: str, at: int, found: int, what: str) -> None:
    if at != found:
        raise _not_json(path, 1, json.JSONDecodeError(f"{what} is missing", text, at))


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


# --- .csv


def _csv_rows(path: Path, file: HashedFile) -> Values:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL))
    records = _records(path, _text_lines(path, file))
    line, header = next(records, (1, []))
    columns = [name.strip() for name in header]
    for name in columns:
        if columns.count(name) > 1:
            raise UsageError(f"{path}:{line}: two columns have the name '{name}'")
    if columns and not set(columns) & set(COLUMNS):
        raise UsageError(
            f"{path}:{line}: none of the columns is known: {', '.join(map(repr, columns[:8]))}",
            f"let the first line name the columns, such as: {', '.join(COLUMNS[2:4])}",
        )
    for begins, cells in records:
        if len(cells) != len(columns):
            raise UsageError(
                f"{path}:{begins}: the row has {len(cells)} cells, and {len(columns)} columns are "
                "named",
                'a cell with a comma, a quote or a line break is written as "such, a ""cell"""',
            )
        yield begins, dict(zip(columns, cells, strict=True))


def _records(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of every row that has any, with the line that the row begins at."""
    first = next(lines, "")
    delimiter = max(_DELIMITERS, key=lambda sign: _known(first, sign))
    reader = csv.reader(_again(first, lines), delimiter=delimiter, strict=True)
    while True:
        begins = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UsageError(f"{path}:{begins}: not CSV: {error}") from error
        if cells is None:
            return
        if cells:
            yield begins, cells


def _known(line: str, delimiter: str) -> int:
    names = {name.strip().strip('"') for name in line.split(delimiter)}
    return len(names & set(COLUMNS))


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


# --- .txt


def _whole_text(path: Path, file: HashedFile) -> Values:
    text = _decode(path, file.read(), 1)
    if text.strip():
        yield 1, {"text": text}


_READERS: Mapping[str, Callable[[Path, HashedFile], Values]] = {
    ".jsonl": _json_lines,
    ".json": _json_array,
    ".csv": _csv_rows,
    ".txt": _whole_text,
}

SUFFIXES = tuple(_READERS)
"""The kinds of data files."""

"""Training data: files of rows, read strictly, each row knowing the file and line it came from.

A row of a ``.jsonl`` file (one JSON object per line) or a ``.json`` file (one array of objects) has
one of four shapes, looked for in this order, because published sets often carry two of them:

1. ``{"messages": [{"role": ..., "content": ...}, ...]}``
2. ``{"prompt": ..., "completion": ...}``, both strings or both lists of messages
3. ``{"instruction": ..., "input": ..., "output": ...}``, where input may be left out
4. ``{"text": ...}``

A ``.txt`` file is one text.
What the model shall learn is the answer: a conversation gives one `Row` per turn of the assistant,
with everything before it as context, and of a text everything is the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelstore.disk import explained
from modelstore.errors import NotFoundError, UsageError
from modelstore.hashing import Digest, digest_of

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
"""Who may speak in a conversation."""

SHAPES = "messages | prompt, completion | instruction, input, output | text"
"""The shapes of a row, for messages to the user."""

SUFFIXES = (".jsonl", ".json", ".txt")
"""The kinds of data files."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: one of `ROLES`.
        content: what was said.
    """

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to learn: an answer, and what it answers.

    Attributes:
        context: the turns before the answer, or the plain text before it ("" where there is none).
        answer: what the loss is computed on.
        where: file and line, for messages to the user.
    """

    context: tuple[Message, ...] | str
    answer: str
    where: str


@dataclass(frozen=True, slots=True)
class DataFile:
    """What a version records of a file it was trained on.

    Attributes:
        name: without directories.
        size: in bytes.
        rows: as counted in the file, before conversations are cut into turns.
        blake3: of its bytes.
    """

    name: str
    size: int
    rows: int
    blake3: Digest


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of some files, in order, and what identifies those files."""

    rows: tuple[Row, ...]
    files: tuple[DataFile, ...]


def load_data(paths: Sequence[Path]) -> Data:
    """Read the files at ``paths``, in that order.

    Raises:
        NotFoundError: one of them does not exist.
        UsageError: one is of no known kind, or a line of it is wrong; the message names the line.
    """
    if not paths:
        raise UsageError("no data to train on", "name a file: mstore train MODEL --data FILE")
    rows: list[Row] = []
    files = []
    for path in paths:
        found, file = _load_file(path)
        rows += found
        files.append(file)
    return Data(tuple(rows), tuple(files))


def _load_file(path: Path) -> tuple[list[Row], DataFile]:
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"'{path}' is no kind of data file that mstore reads",
            f"name a file that ends in {', '.join(SUFFIXES)}",
        )
    if not path.is_file():
        raise NotFoundError(f"there is no file '{path}'")
    with explained(path, "read"):
        raw = path.read_bytes()
    rows: list[Row] = []
    count = 0
    for line, value in _values(path, raw):
        count += 1
        rows += _rows(value, f"{path}:{line}")
    if not rows:
        raise UsageError(f"'{path}' has no rows", f"give it rows of one of these shapes: {SHAPES}")
    return rows, DataFile(path.name, len(raw), count, digest_of(raw))


# --- the values of a file, with the line each begins at


def _values(path: Path, raw: bytes) -> Iterator[tuple[int, Any]]:
    if path.suffix == ".jsonl":
        return _json_lines(path, raw)
    text = _decode(path, raw, 1)
    if path.suffix == ".json":
        return _json_array(path, text)
    return iter([(1, {"text": text})] if text.strip() else [])


def _decode(path: Path, raw: bytes, line: int) -> str:
    try:
        return raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        at = line + raw.count(b"\n", 0, error.start)
        raise UsageError(f"{path}:{at}: not UTF-8", "save the file as UTF-8") from error


def _json_lines(path: Path, raw: bytes) -> Iterator[tuple[int, Any]]:
    # only "\n" ends a line: JSON strings may hold the other separators that str.splitlines knows
    for number, line in enumerate(raw.split(b"\n"), start=1):
        text = _decode(path, line, number)
        if not text.strip():
            continue
        try:
            yield number, json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _not_json(path, number, error) from error


def _json_array(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_json(path, 1, error) from error
    if not isinstance(values, list):
        raise UsageError(f"{path}:1: not an array of rows", "one row per line is a .jsonl file")
    return zip(_item_lines(text), values, strict=True)


def _item_lines(text: str) -> Iterator[int]:
    """Yield the line that each item of the valid JSON array ``text`` begins at."""
    scan = json.JSONDecoder().raw_decode
    line, before, at = 1, 0, text.index("[") + 1
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "]":
            return
        line += text.count("\n", before, at)
        yield line
        before, at = at, scan(text, at)[1]


def _not_json(path: Path, line: int, error: Exception) -> UsageError:
    reason = str(error)
    if isinstance(error, json.JSONDecodeError):
        line, reason = line + error.lineno - 1, f"{error.msg} at column {error.colno}"
    return UsageError(f"{path}:{line}: not JSON: {reason}")


# --- the rows of a value


def _rows(value: object, where: str) -> list[Row]:
    if not isinstance(value, dict):
        raise _wrong(where, f"a row is an object, this is {_kind(value)}")
    if "messages" in value:
        return _turns((), _messages(value["messages"], where, "messages"), where)
    if "prompt" in value or "completion" in value:
        return _completion(value, where)
    if "instruction" in value:
        return [_instruction(value, where)]
    if "text" in value:
        return [Row("", _text(value, "text", where), where)]
    raise _wrong(where, f"none of the keys of a row: {_keys(value)}")


def _completion(value: dict[str, Any], where: str) -> list[Row]:
    prompt, completion = value.get("prompt"), value.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        context = _messages(prompt, where, "prompt")
        return _turns(context, _messages(completion, where, "completion"), where)
    return [
        Row(_text(value, "prompt", where, empty=True), _text(value, "completion", where), where)
    ]


def _instruction(value: dict[str, Any], where: str) -> Row:
    question = _text(value, "instruction", where)
    extra = value.get("input") or ""
    if not isinstance(extra, str):
        raise _wrong(where, f"'input' is {_kind(extra)}, not a string")
    if extra:
        question = f"{question}\n\n{extra}"
    return Row((Message("user", question),), _text(value, "output", where), where)


def _turns(before: tuple[Message, ...], said: tuple[Message, ...], where: str) -> list[Row]:
    """Return one row per turn of the assistant in ``said``, each with all that came before it.

    A turn that opens the conversation answers nothing, and is context only.
    """
    rows = [
        Row(before + said[:index], message.content, where)
        for index, message in enumerate(said)
        if message.role == "assistant" and (before or index)
    ]
    if not rows:
        raise _wrong(where, "no answer of the assistant to learn from")
    return rows


def _messages(value: object, where: str, key: str) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise _wrong(where, f"'{key}' is not a list of messages")
    return tuple(_message(item, where, f"{key}[{index}]") for index, item in enumerate(value))


def _message(item: object, where: str, key: str) -> Message:
    if not isinstance(item, dict):
        raise _wrong(where, f"{key} is {_kind(item)}, not an object with role and content")
    # a key that would be left out, such as tool_calls or weight, would change what is learned
    unknown = {k: v for k, v in item.items() if k not in {"role", "content"} and v is not None}
    if unknown:
        raise _wrong(where, f"{key} has keys mstore does not understand: {_keys(unknown)}")
    role = item.get("role")
    if role not in ROLES:
        raise _wrong(where, f"{key} has the role {role!r}, not one of {', '.join(sorted(ROLES))}")
    return Message(role, _text(item, "content", where, empty=role != "assistant"))


def _text(value: dict[str, Any], key: str, where: str, *, empty: bool = False) -> str:
    if key not in value:
        raise _wrong(where, f"'{key}' is missing")
    text = value[key]
    if not isinstance(text, str):
        raise _wrong(where, f"'{key}' is {_kind(text)}, not a string")
    if not text and not empty:
        raise _wrong(where, f"'{key}' is empty")
    return text


_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    type(None): "null",
}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number")


def _keys(value: dict[str, Any]) -> str:
    return ", ".join(repr(key) for key in list(value)[:8]) or "it is empty"


def _wrong(where: str, problem: str) -> UsageError:
    return UsageError(f"{where}: {problem}", f"rows have one of these shapes: {SHAPES}")

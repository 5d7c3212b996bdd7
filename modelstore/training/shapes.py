"""The shapes a row of training data may have, and what is learned from each.

They are looked for in this order, because published sets often carry two of them:

1. ``{"messages": [{"role": ..., "content": ...}, ...]}``, or ``conversations``; the turns may
   also be spelled ``{"from": "human", "value": ...}``, as ShareGPT has them
2. ``{"prompt": ..., "completion": ...}``, both strings or both lists of messages
3. ``{"instruction": ..., "input": ..., "output": ...}``, where input may be left out
4. ``{"text": ...}``

A conversation of 1, 2 or 3 may have its ``system`` message beside it.
What the model shall learn is the answer: a conversation gives one `Row` per turn of the assistant,
with everything before it as context, and of a text everything is the answer.

Columns that say something else (``id``, ``source``) are left out, but never one that is probably
meant to be a known one: what is learned would not be what was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from modelstore.errors import UsageError
from modelstore.training.rows import ROLES, Message, Row

SHAPES = "messages | prompt, completion | instruction, input, output | text"
"""The shapes of a row, for messages to the user."""

COLUMNS = (
    *("messages", "conversations", "prompt", "completion"),
    *("instruction", "input", "output", "text", "system"),
)
"""The columns that are understood."""

_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "messages": ("message", "chat", "dialog", "dialogue", "turns", "conversation"),
    "prompt": ("question", "query"),
    "completion": ("answer", "response", "target", "chosen"),
    "input": ("context",),
    "output": ("answer", "response", "target"),
    "text": ("content", "body", "document"),
    "system": ("system_prompt", "system_message"),
}
"""What others call a column; the user is asked whether that is meant."""

_NOT_UNDERSTOOD = ("tools", "functions", "history", "images", "chat_template_kwargs")
"""Columns that would change what is learned, were they not left out."""

_SPEAKERS = {"human": "user", "gpt": "assistant", "observation": "tool"}
"""The names of ShareGPT that are not among ours."""


def rows_of(value: object, where: str) -> list[Row]:
    """Return what there is to learn from one row of a file; at least one `Row`.

    Args:
        value: as JSON has it.
        where: file and line.

    Raises:
        UsageError: it has none of the shapes; the message begins with ``where``.
    """
    if not isinstance(value, dict):
        raise _wrong(where, f"a row is an object, this is {_kind(value)}")
    for column in _NOT_UNDERSTOOD:
        if value.get(column):
            raise _wrong(where, f"'{column}' is a column mstore does not understand")
    if "messages" in value or "conversations" in value:
        return _conversation(value, where)
    if "prompt" in value or "completion" in value:
        return _completion(value, where)
    if "instruction" in value:
        return [_instruction(value, where)]
    if "text" in value:
        return [Row("", _text(value, "text", where), where)]
    raise _wrong(where, f"none of the keys of a row: {_keys(value, COLUMNS)}")


# --- the shapes


def _conversation(value: dict[str, Any], where: str) -> list[Row]:
    column = "messages" if "messages" in value else "conversations"
    _check_columns(value, (column, "system"), where)
    said = _messages(value, column, where)
    return _turns((), _system(value, said, where) + said, where)


def _completion(value: dict[str, Any], where: str) -> list[Row]:
    _check_columns(value, ("prompt", "completion", "system"), where)
    if isinstance(value.get("prompt"), list) and isinstance(value.get("completion"), list):
        prompt = _messages(value, "prompt", where)
        context = _system(value, prompt, where) + prompt
        return _turns(context, _messages(value, "completion", where), where)
    if value.get("system"):
        raise _wrong(where, "'system' goes with messages, and 'prompt' is plain text")
    prompt_text = _text(value, "prompt", where, empty=True)
    return [Row(prompt_text, _text(value, "completion", where), where)]


def _instruction(value: dict[str, Any], where: str) -> Row:
    _check_columns(value, ("instruction", "input", "output", "system"), where)
    question = _text(value, "instruction", where)
    extra = value.get("input")
    if extra is not None:
        extra = _text(value, "input", where, empty=True)
    if extra:
        question = f"{question}\n\n{extra}"
    context = (*_system(value, (), where), Message("user", question))
    return Row(context, _text(value, "output", where), where)


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


def _system(value: dict[str, Any], said: tuple[Message, ...], where: str) -> tuple[Message, ...]:
    """Return the system message that stands beside the conversation ``said``, if one does."""
    if not value.get("system"):
        return ()
    if said and said[0].role == "system":
        raise _wrong(where, "'system' is said twice, beside the messages and in the first of them")
    return (Message("system", _text(value, "system", where)),)


# --- messages


def _messages(value: dict[str, Any], column: str, where: str) -> tuple[Message, ...]:
    items = value[column]
    if not isinstance(items, list) or not items:
        raise _wrong(where, f"'{column}' is not a list of messages")
    return tuple(_message(item, where, f"{column}[{at}]") for at, item in enumerate(items))


def _message(item: object, where: str, name: str) -> Message:
    if not isinstance(item, dict):
        raise _wrong(where, f"{name} is {_kind(item)}, not an object with role and content")
    speaker, says = ("from", "value") if {"from", "value"} & item.keys() else ("role", "content")
    # a key that would be left out, such as tool_calls or weight, would change what is learned
    unknown = {k: v for k, v in item.items() if k not in {speaker, says} and v is not None}
    if unknown:
        names = _keys(unknown, tuple(key for key in (speaker, says) if key not in item))
        raise _wrong(where, f"{name} has keys mstore does not understand: {names}")
    role = item.get(speaker)
    if isinstance(role, str):
        role = _SPEAKERS.get(role, role)
    if not isinstance(role, str) or role not in ROLES:
        known = sorted(ROLES | (_SPEAKERS.keys() if speaker == "from" else set()))
        raise _wrong(where, f"{name} has the role {role!r}, not one of {', '.join(known)}")
    return Message(role, _text(item, says, where, empty=role != "assistant"))


# --- values and names


def _text(value: dict[str, Any], key: str, where: str, *, empty: bool = False) -> str:
    if key not in value:
        raise _wrong(where, f"'{key}' is missing")
    text = value[key]
    if not isinstance(text, str):
        raise _wrong(where, f"'{key}' is {_kind(text)}, not a string")
    if not text and not empty:
        raise _wrong(where, f"'{key}' is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        problem = f"'{key}' holds half a character (\\u{ord(text[error.start]):04x}) at"
        raise _wrong(where, f"{problem} position {error.start}") from error
    return text


def _check_columns(value: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    """Refuse a column that is probably meant to be one of ``known``, by another name."""
    absent = tuple(column for column in known if column not in value)
    for key in value.keys() - set(COLUMNS):
        meant = nearest(key, absent) if value[key] else ""
        if meant:
            raise _wrong(where, f"unknown column '{key}'; did you mean '{meant}'?")


@lru_cache(maxsize=256)
def nearest(key: str, known: tuple[str, ...]) -> str:
    """Return the one of ``known`` that ``key`` is probably meant to be, or ""."""
    lower = key.strip().lower()
    for column in known:
        if lower in _OTHER_NAMES.get(column, ()):
            return column
    return next(iter(get_close_matches(lower, known, n=1, cutoff=0.8)), "")


_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    type(None): "null",
}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number")


def _keys(value: dict[str, Any], known: tuple[str, ...]) -> str:
    named = []
    for key in list(value)[:8]:
        meant = nearest(key, known)
        named.append(f"{key!r} (did you mean '{meant}'?)" if meant else repr(key))
    return ", ".join(named) or "it is empty"


def _wrong(where: str, problem: str) -> UsageError:
    return UsageError(f"{where}: {problem}", f"rows have one of these shapes: {SHAPES}")

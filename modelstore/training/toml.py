"""TOML, read the same way for our own presets, for a user's file and for one value after --set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from modelstore.disk import explained
from modelstore.errors import NotFoundError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse(text: str, name: str) -> dict[str, Any]:
    """Return the table that ``text`` is; ``name`` says where it is from.

    Raises:
        UsageError: it is not TOML; the message names the line.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name} is not TOML: {error}", "see https://toml.io") from error


def read(path: Path) -> dict[str, Any]:
    """Return the table in the file at ``path``.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it is not TOML.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no file '{path}'")
    with explained(path, "read"):
        raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"'{path}' is not UTF-8", "save the file as UTF-8") from error
    return parse(text, f"'{path}'")


def value(text: str) -> object:
    """Return what ``text`` is as a TOML value, or the text itself where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except tomllib.TOMLDecodeError:
        return text

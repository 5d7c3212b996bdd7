"""Reads what other tools wrote: a `model_registry.json` or `model_info.json` of unknown shape.

Nothing is demanded of them but to be JSON. What is recognised is read; every other key is kept as
it is, and a key of theirs that means something else here is kept under ``adopted``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelstore.canonical import excess_of
from modelstore.names import Version, is_version, parse_alias, parse_version

KEPT = "adopted"
"""The key that holds what could not stay under its own name."""

_VERSIONS = ("versions", "model_versions", "models", "releases", "entries")
_ACTIVE = (
    "active_version",
    "active",
    "current_version",
    "current",
    "activeVersion",
    "active_model",
)
_NAME = ("version", "name", "version_name", "tag", "id")
_FLAGS = ("is_active", "active", "current", "is_current")
_OURS = ("schema", "model_type", "seq", "head", "active_history", "checksum", "removed", KEPT)
_MAX_DIGITS = 32
"""Digits of the longest integer that the store's own JSON holds."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A registry that mstore did not make.

    Attributes:
        versions: what it says of each version, by the version's number.
        active: the version that it says is active, or None.
        values: its other keys, as our registry can hold them.
        remarks: what was odd about it, one sentence each.
    """

    versions: Mapping[Version, Mapping[str, Any]] = field(default_factory=dict)
    active: Version | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def read_registry(data: bytes, name: str, model: str) -> Foreign | None:
    """Return what the registry ``data`` says, None if it is not JSON that could be one.

    Args:
        name: how remarks call it.
        model: the model's name, for a ``model_type`` that only repeats it.
    """
    document = read_json(data)
    if isinstance(document, list):
        document = {"versions": document}
    if not isinstance(document, dict):
        return None
    key, listed = _find_versions(document)
    versions, odd = _versions(listed)
    remarks = [f"{name} lists {word!r}, which is no version" for word in odd]
    active_key, active, more = _active(document, versions, name)
    rest = {k: v for k, v in document.items() if k not in (key, active_key)}
    if key == "":
        rest = {k: v for k, v in rest.items() if version_of(k) is None}
    kept: dict[str, Any] = {key or "versions": odd} if odd else {}
    if active is None and active_key:
        kept[active_key] = document[active_key]
    return Foreign(versions, active, _values(rest, kept, versions, model), (*remarks, *more))


def read_json(data: bytes) -> Any:
    """Return the value that ``data`` spells, made of what our own JSON can hold; None if it is none.

    Numbers that are infinite, none at all, or of many digits become the text that spelt them.
    What is larger than any registry is none.
    """
    if excess_of(data):
        return None
    try:
        value = json.loads(
            data.decode("utf-8-sig"), parse_constant=str, parse_int=_integer, parse_float=_float
        )
        return _encodable(value)
    except (ValueError, RecursionError):
        return None


def version_of(text: object) -> Version | None:
    """Return the version that ``text`` means: "v1.0", "1.0", 1.0, "V1.0", "v1" or 1; else None."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        return None
    word = re.sub(r"\A[vV]", "", str(text).strip())
    if re.fullmatch(r"\d{1,9}", word, re.ASCII):
        word = f"{word}.0"
    return parse_version(word) if is_version(word) else None


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _float(digits: str) -> float | str:
    value = float(digits)
    return value if math.isfinite(value) else digits


def _encodable(value: Any) -> Any:
    """Return ``value`` with strings that are UTF-8: half a surrogate pair cannot be written."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return value


def _find_versions(document: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the key that holds the versions and what it holds; "" where they lie at the top."""
    for key in _VERSIONS:
        if isinstance(document.get(key), dict | list):
            return key, document[key]
    top = {k: v for k, v in document.items() if version_of(k) is not None}
    return "", top


def _versions(listed: Any) -> tuple[dict[Version, Mapping[str, Any]], dict[str, Any]]:
    """Return the versions, and what is listed among them and is none."""
    versions: dict[Version, Mapping[str, Any]] = {}
    odd: dict[str, Any] = {}
    for name, value in _rows(listed):
        version = version_of(name)
        if version is None or version in versions:
            odd[str(name)] = value
            continue
        versions[version] = value if isinstance(value, dict) else {"value": value}
    return versions, odd


def _rows(listed: Any) -> Iterable[tuple[object, Any]]:
    if isinstance(listed, dict):
        yield from listed.items()
        return
    for number, item in enumerate(listed):
        if isinstance(item, dict):
            named = (item[key] for key in _NAME if version_of(item.get(key)) is not None)
            yield next(named, f"#{number}"), item
        else:
            yield (item, {}) if version_of(item) is not None else (f"#{number}", item)


def _active(
    document: Mapping[str, Any], versions: Mapping[Version, Mapping[str, Any]], name: str
) -> tuple[str, Version | None, list[str]]:
    """Return the key at the top that names the active version, that version, and remarks."""
    flagged = [version for version, values in versions.items() if _is_flagged(values)]
    key = next((key for key in _ACTIVE if key in document and key not in _VERSIONS), "")
    said = document.get(key)
    if isinstance(said, dict):
        said = next((said[k] for k in _NAME if k in said), None)
    active = version_of(said)
    if active is None:
        remarks = [f"{name} says that {said!r} is active, which is no version"] if said else []
        if len(flagged) > 1:
            names = ", ".join(map(str, flagged))
            remarks.append(
                f"{name} marks several versions active ({names}); {flagged[-1]} is taken"
            )
        return key, flagged[-1] if flagged else None, remarks
    if flagged and active not in flagged:
        return key, active, [f"{name} says {active} is active and marks {flagged[-1]}"]
    return key, active, []


def _is_flagged(values: Mapping[str, Any]) -> bool:
    marked = any(values.get(key) is True for key in _FLAGS)
    status = values.get("status")
    return marked or (isinstance(status, str) and status.strip().lower() in {"active", "current"})


def _values(
    rest: Mapping[str, Any], kept: dict[str, Any], versions: Iterable[Version], model: str
) -> dict[str, Any]:
    """Return the keys at the top as our registry takes them; what it cannot goes under ``adopted``."""
    values: dict[str, Any] = {}
    known = {str(version) for version in versions}
    for key, value in rest.items():
        if key == "model_type" and value == model:
            continue
        if value is None or key in _OURS or not _fits(key, value, known):
            kept[key] = value
        else:
            values[key] = value
    return {**values, KEPT: kept} if kept else values


def _fits(key: str, value: Any, known: set[str]) -> bool:
    """Tell whether our registry can hold ``value`` under ``key``, to which it gives a meaning."""
    if key in {"base_model", "description"}:
        return isinstance(value, str)
    if key == "defaults":
        return isinstance(value, dict)
    if key == "aliases":
        return isinstance(value, dict) and all(_is_alias(k, v, known) for k, v in value.items())
    return key not in {"versions", "active_version"}


def _is_alias(name: str, version: Any, known: set[str]) -> bool:
    try:
        parse_alias(name)
    except ValueError:
        return False
    return isinstance(version, str) and version in known


def without_marks(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is said of a version without the marks of being active, and those marks.

    The marks would go stale as soon as ACTIVE moves.
    """
    marks = {key: values[key] for key in _FLAGS if isinstance(values.get(key), bool)}
    if _is_flagged({"status": values.get("status")}):
        marks["status"] = values["status"]
    rest = {key: value for key, value in values.items() if key not in marks}
    marks.pop("is_active", None)  # the view writes this one itself
    return rest, marks

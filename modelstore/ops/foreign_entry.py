"""What a foreign registry, or a `model_info.json`, says of one version, in our words.

The seed's own spelling comes first; the others were seen in the wild.
A metric is renamed only where the other name means the same in the same unit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from modelstore import moments
from modelstore.manifest import from_scalars, to_scalars
from modelstore.names import Version
from modelstore.ops.foreign import KEPT, version_of, without_marks

MISSING = "missing"
"""The ``status`` of a version that is registered and whose files are not there."""

_PARAMETERS = ("training_parameters", "training_params", "hyperparameters", "parameters", "params")
_METRICS = ("metrics", "training_metrics", "results", "performance")
_CREATED = ("created_at", "created", "timestamp", "date", "trained_at", "createdAt")
_NOTES = ("notes", "note", "comment", "comments")
_BASE_MODEL = ("base_model", "base_model_name", "base", "baseModel")
_PARENTS = ("parent", "parent_version", "parents", "previous_version", "derived_from")
_SAME_METRIC = {
    "loss": ("final_loss", "training_loss", "train_loss"),
    "training_time": ("training_time_seconds", "training_time_s", "train_runtime", "duration"),
    "model_size": ("model_size_bytes", "size_bytes"),
}
_FLAT_PARAMETERS = ("epochs", "batch_size", "learning_rate", "device")
_OURS = ("id", "seq", "parents", "author", "sizes", "generated", "message", KEPT)
_SEED = (
    *("created_at", "training_parameters", "metrics", "notes", "description", "path"),
    "base_model",
)


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of a version; "" and {} for what is not.

    Attributes:
        created_at: RFC 3339, UTC, whole seconds; a time that named no zone is taken as UTC, so
            that its digits stay what they were.
        parent: the version it was made from, or None.
        parameters, metrics: of the training; what is no number and no text is JSON text.
    """

    created_at: str = ""
    description: str = ""
    notes: str = ""
    message: str = ""
    base_model: str = ""
    parent: Version | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def over(self, other: Told) -> Told:
        """Return this with what only ``other`` tells."""
        return Told(
            created_at=self.created_at or other.created_at,
            description=self.description or other.description,
            notes=self.notes or other.notes,
            message=self.message or other.message,
            base_model=self.base_model or other.base_model,
            parent=self.parent or other.parent,
            parameters={**other.parameters, **self.parameters},
            metrics={**other.metrics, **self.metrics},
        )


def told(values: Mapping[str, Any]) -> Told:
    """Return what ``values``, an entry of a registry or a `model_info.json`, says of a version."""
    flat = {key: values[key] for key in _FLAT_PARAMETERS if _is_plain(values.get(key))}
    same = [name for names in _SAME_METRIC.items() for name in (names[0], *names[1])]
    measured = {key: values[key] for key in same if _is_plain(values.get(key))}
    return Told(
        created_at=_moment(_first(values, _CREATED)),
        description=_text(values.get("description")),
        notes=_text(_first(values, _NOTES)),
        message=_text(values.get("message")),
        base_model=_text(_first(values, _BASE_MODEL)),
        parent=_parent(_first(values, _PARENTS)),
        parameters={**flat, **_mapping(_first(values, _PARAMETERS))},
        metrics=_renamed({**measured, **_mapping(_first(values, _METRICS))}),
    )


def entry_values(values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return what our registry holds of a version that a foreign one lists, before it is committed.

    Every key of theirs stays; where ours of that name has to say something else, theirs is kept
    under ``adopted``.

    Args:
        values: what the foreign registry says.
        path: of the version's directory, as it shall be spelt.
    """
    rest, kept = without_marks(values)
    mine = told(values)
    ours: dict[str, Any] = {
        "created_at": mine.created_at,
        "training_parameters": from_scalars(to_scalars(mine.parameters)),
        "metrics": from_scalars(to_scalars(mine.metrics)),
        "notes": mine.notes,
        "description": mine.description,
        "path": path,
        "base_model": mine.base_model,
        "message": mine.message,
    }
    for key in (*_SEED, *_OURS, "status"):
        if key in rest and rest[key] != ours.get(key):
            kept[key] = rest.pop(key)
    ours = {key: value for key, value in ours.items() if value}
    return {**rest, **ours, "status": MISSING, **({KEPT: kept} if kept else {})}


def beside(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a missing version's entry that stay when it is committed."""
    kept = {**values.get(KEPT, {})} if isinstance(values.get(KEPT), dict) else {}
    own = {*_SEED, *_OURS, "status"} - {"path"}
    rest = {key: value for key, value in values.items() if key not in own}
    if isinstance(kept.get("status"), str) and without_marks(kept)[0].get("status"):
        rest["status"] = kept.pop("status")
    return {**rest, **({KEPT: kept} if kept else {})}


def _first(values: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((values[key] for key in keys if values.get(key) not in (None, "", {}, [])), None)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(filter(None, map(_text, value)))
    if isinstance(value, dict):
        return str(value["text"]) if "text" in value else _json(value)
    return "" if value is None else str(value)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and value != ""


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    return {
        key: _json(item) if isinstance(item, dict | list) else item
        for key, item in value.items()
        if item is not None
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _renamed(metrics: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        old: new
        for new, same in _SAME_METRIC.items()
        if new not in metrics
        for old in same
        if old in metrics
    }
    taken: set[str] = set()
    renamed = {}
    for key, value in metrics.items():
        name = names.get(key, key)
        if key in names and name in taken:
            name = key
        taken.add(name)
        renamed[name] = value
    return renamed


def _parent(value: Any) -> Version | None:
    if isinstance(value, list):
        value = value[0]
    if isinstance(value, dict):
        value = value.get("version")
    return version_of(value.rpartition("@")[2] if isinstance(value, str) else value)


def _moment(value: Any) -> str:
    """Return a time, text or seconds since 1970, as the store writes it; "" if it is none."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            moment = moments.from_seconds(int(value))
        else:
            # Python 3.10 reads neither a Z nor fewer than three or six digits of a second
            text = str(value).strip().replace("Z", "+00:00").replace("z", "+00:00")
            head, dot, tail = text.partition(".")
            digits = len(tail) - len(tail.lstrip("0123456789"))
            moment = datetime.fromisoformat(head + tail[digits:] if dot else text)
    except (ValueError, OverflowError, OSError):
        return ""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moments.rfc3339(moment)

"""Versions as rows of a page, made from what the registry holds: no manifest and no frame is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modelstore.names import ModelName
from modelstore.state import Entry, State

_NO_RESULT = {
    *("model_size", "training_time", "total_flos", "samples", "steps", "tokens", "cpu_time"),
    *("eval_samples", "evaluation_rows", "epoch", "train_runtime"),
}
"""What trainers record beside results."""

LAST = {"first_loss", "final_loss", "eval_loss_before", "best_eval_loss"}
"""Metrics that say no more than others do; they are in tables, not in charts."""
_LEADING = ("eval_loss", "loss", "train_loss", "perplexity", "eval_accuracy", "accuracy")
_MOST_METRICS = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A version in a list.

    Attributes:
        version, id: its number and its digest; "" for one whose files are not here.
        active: whether it is ACTIVE.
        aliases: what else it is called.
        message, author, created_at: what was said, by whom, when.
        parents: numbers of the versions it was made from, or the beginnings of their digests.
        metrics: those that are results, those of note first.
        logical, stored: bytes of its files, and that it added to the store; None where unknown.
        files, tensors, parameters: how many it has; None where unknown.
    """

    version: str
    id: str
    active: bool
    aliases: tuple[str, ...]
    message: str
    author: str
    created_at: str
    parents: tuple[str, ...]
    metrics: Mapping[str, Any]
    logical: int | None
    stored: int | None
    files: int | None
    tensors: int | None
    parameters: int | None

    @property
    def saved(self) -> float | None:
        """The share of its bytes that it did not cost; None where that is not known."""
        if not self.logical or self.stored is None:
            return None
        return max(0.0, 1 - self.stored / self.logical)

    @property
    def of_note(self) -> dict[str, Any]:
        """A few metrics that say most."""
        found = {name: value for name, value in self.metrics.items() if name not in LAST}
        return dict(list((found or self.metrics).items())[:_MOST_METRICS])


class Rows:
    """Makes the rows of one line."""

    def __init__(self, model: ModelName, state: State) -> None:
        self.model = model
        self.state = state
        versions = state.document["versions"]
        self._names = {values.get("id"): name for name, values in versions.items()}
        self._aliases: dict[str, list[str]] = defaultdict(list)
        for alias, version in sorted(state.aliases.items()):
            self._aliases[version].append(alias)

    def row(self, entry: Entry) -> Row:
        """Return the row of a version."""
        version = str(entry.version)
        sizes = entry.mapping("sizes")
        return Row(
            version=version,
            id=str(entry.id or ""),
            active=version == self.state.active,
            aliases=tuple(self._aliases.get(version, ())),
            message=entry.text("message") or entry.text("description"),
            author=entry.text("author"),
            created_at=entry.text("created_at"),
            parents=tuple(self._names.get(digest, digest[:12]) for digest in entry.parents),
            metrics=metrics_of(entry),
            logical=whole(sizes.get("logical")),
            stored=whole(sizes.get("stored")),
            files=whole(sizes.get("files")),
            tensors=whole(sizes.get("tensors")),
            parameters=whole(sizes.get("parameters")),
        )


def metrics_of(entry: Entry) -> dict[str, Any]:
    """Return the metrics of a version that are results, those of note first."""
    found = entry.mapping("metrics")
    order = [name for name in _LEADING if name in found]
    rest = found.keys() - set(order) - _NO_RESULT
    order += sorted(rest, key=lambda name: (name in LAST, name))
    return {name: found[name] for name in order if not isinstance(found[name], dict | list)}


def is_number(value: object) -> bool:
    """Tell whether a metric can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole(value: object) -> int | None:
    """Return a count that a registry holds, None where it holds something else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Totals:
    """What versions cost together, as far as registries say.

    Attributes:
        versions: how many there are.
        logical: bytes of their files.
        stored: bytes that their commits added to the store.
    """

    versions: int
    logical: int
    stored: int

    @property
    def saved(self) -> float | None:
        """The share of the bytes that need not be stored."""
        return max(0.0, 1 - self.stored / self.logical) if self.logical else None


def totals(entries: Iterable[Entry]) -> Totals:
    """Return what versions cost together."""
    found = list(entries)
    sizes = [entry.mapping("sizes") for entry in found]
    return Totals(
        len(found),
        sum(whole(size.get("logical")) or 0 for size in sizes),
        sum(whole(size.get("stored")) or 0 for size in sizes),
    )

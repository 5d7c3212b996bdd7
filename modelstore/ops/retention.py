"""Which versions a policy keeps, and why; the others are removed by gc, as `rm` removes them.

A version stays if any rule keeps it; a metric that no version of a model has keeps all of them.
No rule looks at a clock for the order of versions; ages are
counted back from the model's newest version, so that a clock that is wrong today removes nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from modelstore.errors import UsageError
from modelstore.state import Entry, State

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_LOWER_IS_BETTER = ("loss", "perplexity")


@dataclass(frozen=True, slots=True)
class Best:
    """The versions that are best by one metric.

    Attributes:
        count: how many stay.
        metric: its name.
        lowest: whether the lowest values are the best.
    """

    count: int
    metric: str
    lowest: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """What stays of every model beside what is in use; nothing else does.

    Attributes:
        last: how many of the newest versions; None for no such rule.
        within: versions not older than this, counted back from the newest; None for no such rule.
        best: those that are best by some metric.
    """

    last: int | None = None
    within: timedelta | None = None
    best: tuple[Best, ...] = ()

    def __bool__(self) -> bool:
        """Whether it has any rule; without one every version stays."""
        return self.last is not None or self.within is not None or bool(self.best)


def parse_age(text: str) -> timedelta:
    """Return the time that ``text`` spells: 24h, 7d or 3w.

    Raises:
        UsageError: it spells none.
    """
    match = re.fullmatch(r"([0-9]{1,5})([hdw])", text)
    if match is None:
        raise UsageError(f"{text!r} is no time", "say hours, days or weeks: 24h, 7d, 3w")
    return int(match.group(1)) * _UNITS[match.group(2)]


def parse_best(text: str) -> Best:
    """Return the rule that ``text`` spells: N:METRIC, or N:METRIC:min or :max.

    Without min or max the lowest is best for metrics whose name has "loss" or "perplexity" in it,
    for all others the highest.

    Raises:
        UsageError: it spells none.
    """
    match = re.fullmatch(r"([0-9]{1,9}):(.+?)(?::(min|max))?", text)
    if match is None:
        raise UsageError(f"{text!r} is no rule", "say N:METRIC, as in 3:loss or 3:accuracy:max")
    count, metric, way = match.groups()
    lowest = (
        any(word in metric.lower() for word in _LOWER_IS_BETTER) if way is None else way == "min"
    )
    return Best(int(count), metric, lowest)


def reasons(policy: Policy, state: State) -> Mapping[str, tuple[str, ...]]:
    """Return why the policy keeps each version of a model that has content; () for no reason."""
    entries = [entry for entry in state.entries() if entry.id is not None]
    found: dict[str, tuple[str, ...]] = {str(entry.version): () for entry in entries}

    def keep(entry: Entry, why: str) -> None:
        found[str(entry.version)] += (why,)

    if policy.last:
        for entry in entries[-policy.last :]:
            keep(entry, f"one of the last {policy.last}")
    if policy.within is not None:
        oldest = _newest(entries) - policy.within
        for entry in entries:
            made = _moment(entry)
            if made is None or made >= oldest:
                keep(entry, "its age is not known" if made is None else "young enough")
    for rule in policy.best:
        best, why = _best(rule, entries)
        for entry in best:
            keep(entry, why)
    return found


def _best(rule: Best, entries: list[Entry]) -> tuple[list[Entry], str]:
    """Return the best by a rule, of equally good ones the newer, and why they stay."""
    ranked = [
        (value, entry) for entry in reversed(entries) if (value := _value(entry, rule)) is not None
    ]
    if not ranked:  # a mistyped metric must not remove them all
        return entries, f"no version has a {rule.metric!r}"
    ranked.sort(key=lambda pair: pair[0] if rule.lowest else -pair[0])
    best = [entry for _, entry in ranked[: rule.count]]
    return best, f"one of the best {rule.count} by {rule.metric}"


def _value(entry: Entry, rule: Best) -> float | None:
    value = entry.mapping("metrics").get(rule.metric)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _newest(entries: list[Entry]) -> datetime:
    """Return when the newest version was made, or now if it says that it will be."""
    now = datetime.now(timezone.utc)
    moments = [moment for moment in map(_moment, entries[-1:]) if moment is not None]
    return min([now, *moments])


def _moment(entry: Entry) -> datetime | None:
    try:
        moment = datetime.fromisoformat(entry.text("created_at").replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)

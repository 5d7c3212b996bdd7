"""Configurations and tokenizers of two versions, taken apart into rows that can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modelstore.errors import StoreError
from modelstore.manifest import FileEntry, Manifest
from modelstore.server.context import Context
from modelstore.server.kept import Kept
from modelstore.server.pages.words import cut, exactly

_FILES = (
    *("config.json", "generation_config.json", "adapter_config.json", "tokenizer_config.json"),
    *("preprocessor_config.json", "special_tokens_map.json"),
)
_MOST_CONFIG = 2 << 20
_MOST_TOKENIZER = 48 << 20
_MOST_ROWS = 2000
_MOST_TOKENS = 12
_LONG, _CONTEXT = 100, 60
"""Characters that two texts share before what is the same is left out, and that are shown of it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of a comparison; None where a side has no such thing."""

    name: str
    before: Any
    after: Any

    @property
    def equal(self) -> bool:
        """Whether both are the same."""
        return bool(self.before == self.after)

    @property
    def sides(self) -> tuple[str | None, str | None]:
        """Both as text; of long ones from shortly before where they begin to differ."""
        before, after = (None if v is None else exactly(v) for v in (self.before, self.after))
        if before is None or after is None or before == after:
            return before, after
        start = _shared(before, after) - _CONTEXT
        if start < _LONG:
            return before, after
        return f"…{before[start:]}", f"…{after[start:]}"


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def settings_of(context: Context, old: Manifest, new: Manifest) -> list[Setting]:
    """Return the settings in the configuration files of two versions, by dotted names."""
    rows: list[Setting] = []
    for path in _FILES:
        one, two = old.file(path), new.file(path)
        if one is None and two is None:
            continue
        left = _leaves(context, path, one)
        same = one is not None and two is not None and one.blake3 == two.blake3
        right = left if same else _leaves(context, path, two)
        names = dict.fromkeys([*left, *right])
        rows += [Setting(name, left.get(name), right.get(name)) for name in names]
    return rows[:_MOST_ROWS]


def tokenizer_of(context: Context, old: Manifest, new: Manifest) -> list[Setting]:
    """Return what can be said of the tokenizers of two versions."""
    rows = []
    for path in sorted({file.path for file in (*old.files, *new.files) if _is_tokenizer(file)}):
        one, two = old.file(path), new.file(path)
        rows.append(Setting(path, _digest(one), _digest(two)))
        if path == "tokenizer.json" and _digest(one) != _digest(two):
            left, right = _facts_of(context, one), _facts_of(context, two)
            rows += _tokens(left, right)
    return rows


def _is_tokenizer(file: FileEntry) -> bool:
    name = file.path.rpartition("/")[2]
    return name in {"vocab.json", "merges.txt", "vocab.txt", "spiece.model"} or (
        name.startswith(("tokenizer", "chat_template")) and name not in _FILES
    )


def _digest(file: FileEntry | None) -> str | None:
    return None if file is None else f"{file.sha256[:12]}…, {file.size:,} bytes"


@dataclass(frozen=True, slots=True)
class _Facts:
    kind: str | None
    vocabulary: frozenset[str]
    merges: int | None
    added: tuple[str, ...]


_kept: Kept[_Facts] = Kept(4, lambda _: 1)
"""By the digest of the file: a page that waits for tensors is made again every second."""


def _facts_of(context: Context, file: FileEntry | None) -> _Facts:
    key = "" if file is None else file.blake3
    return _kept.get(key, lambda: _facts(_parsed(context, file, _MOST_TOKENIZER)))


def _facts(value: Any) -> _Facts:
    value = value if isinstance(value, dict) else {}
    model = value.get("model")
    model = model if isinstance(model, dict) else {}
    vocabulary, merges = model.get("vocab"), model.get("merges")
    added = value.get("added_tokens")
    names = (
        [one.get("content") for one in added if isinstance(one, dict)]
        if isinstance(added, list)
        else []
    )
    kind = model.get("type")
    return _Facts(
        kind if isinstance(kind, str) else None,
        frozenset(vocabulary) if isinstance(vocabulary, dict) else frozenset(),
        len(merges) if isinstance(merges, list) else None,
        tuple(name for name in names if isinstance(name, str)),
    )


def _tokens(left: _Facts, right: _Facts) -> Iterator[Setting]:
    yield Setting("kind", left.kind, right.kind)
    yield Setting("vocabulary", len(left.vocabulary) or None, len(right.vocabulary) or None)
    yield Setting("merges", left.merges, right.merges)
    yield Setting("added tokens", len(left.added), len(right.added))
    gone = sorted((left.vocabulary | set(left.added)) - right.vocabulary - set(right.added))
    come = sorted((right.vocabulary | set(right.added)) - left.vocabulary - set(left.added))
    if gone or come:
        yield Setting("tokens of one side only", _listed(gone), _listed(come))


def _listed(tokens: list[str]) -> str | None:
    if not tokens:
        return None
    more = f" and {len(tokens) - _MOST_TOKENS:,} more" if len(tokens) > _MOST_TOKENS else ""
    return " ".join(str(cut(token, 40)) for token in tokens[:_MOST_TOKENS]) + more


def _parsed(context: Context, file: FileEntry | None, most: int) -> Any:
    if file is None or file.size > most:
        return {}
    try:
        return json.loads(context.small_file(file))
    except (StoreError, ValueError, RecursionError):
        return {}


def _leaves(context: Context, path: str, file: FileEntry | None) -> dict[str, Any]:
    try:
        return dict(_flat(path, _parsed(context, file, _MOST_CONFIG)))
    except RecursionError:  # it could be read, but is too deep to be written
        return {}


def _flat(name: str, value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a value by dotted names; lists, and what is deep, are one leaf."""
    if isinstance(value, Mapping) and value and depth < 4:
        for key, item in value.items():
            below = f"{name} › {key}" if depth == 0 else f"{name}.{key}"
            yield from _flat(below, item, depth + 1)
    elif depth:
        plain = isinstance(value, str | int | float) and not isinstance(value, bool)
        yield name, value if plain else json.dumps(value, ensure_ascii=False)

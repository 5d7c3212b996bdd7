"""Layers and modules, from the names of tensors of any architecture.

A name is cut at dots and slashes. The first number that counts something (layers, blocks) makes the
row, what follows it the column: ``model.layers.3.self_attn.q_proj.weight`` is row 3, column
``self_attn.q_proj``. Further numbers that count many things alike, as experts, are put together.
What is in no layer has a row of its own, above or below the layers. Where nothing is counted, rows
are modules, and columns their tensors.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from modelstore.charts.changes import Head

_CUTS = re.compile(r"[./]")
_COUNTED = re.compile(r"(layers?|blocks?|h)_([0-9]{1,6})")
_NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)
_KINDS = {"weight", "bias", "kernel", "scale", "gamma", "beta", "embedding"}
"""Last parts of names that say which tensor of a module it is."""

_GENERIC = {"layers", "layer", "blocks", "block", "h", "blk", "layer_stack"}
_ANY = "*"
_FEW_ALIKE = 4  # counted things that each have a column
_MOST_COLUMNS, _MOST_LAYERS, _MOST_LONE = 48, 240, 60
_OTHERS = "others"

Place = tuple[int, int | None]

_GROUPS = (
    (r"^(input_layernorm|ln_1|norm1|attn_norm|layer_norm1|layernorm_before)$", 1),
    (r"^(post_attention_layernorm|ln_2|norm2|ffn_norm|layer_norm2|layernorm_after)$", 3),
    (r"^pre_feedforward", 3),
    (r"^post_feedforward", 5),
    (r"attn|attention|mixer|ssm|mamba|conv", 2),
    (r"mlp|ffn|feed_?forward|moe|expert|^ff|intermediate|fc", 4),
)
"""What comes first in a layer; 5 is what fits none."""

_WITHIN = (
    (r"norm|^ln", 0),
    (r"qkv|c_attn|in_proj|query_key_value", 1),
    (r"(^|[_.])(q|query)([_.]|$)", 2),
    (r"(^|[_.])(k|key)([_.]|$)", 3),
    (r"(^|[_.])(v|value)([_.]|$)", 4),
    (r"router|gate$", 6),
    (r"gate_proj|ffn_gate|w1", 7),
    (r"(^|[_.])up([_.]|$)|c_fc|fc1|w3|h_to_4h", 8),
    (r"(^|[_.])down([_.]|$)|fc2|w2|4h_to_h", 9),
)
"""What comes first in a group; 5 is what fits none, as the output of attention."""

_STACKS = ((r"vision|visual|encoder|down|double|img", 0), (r"mid", 1), (r"", 2))
_LONE = (
    (r"embed|embd|wte|wpe|tok|patch|cls|position", 0),
    (r"head|score|classif|pooler|^output$|projection", 7),
    (r"norm|^ln", 6),
)
"""What is in no layer: 0 and what is above the layers, 6 and 7 below; 5 is what fits none."""


@dataclass(frozen=True, slots=True)
class Arranged:
    """Tensors as rows and columns.

    Attributes:
        rows, columns: from the first to the last.
        places: of each name the row, and the column; None for one as wide as all columns.
    """

    rows: tuple[Head, ...]
    columns: tuple[Head, ...]
    places: Mapping[str, Place]


@dataclass(frozen=True, slots=True)
class _Parts:
    """A name, taken apart.

    Attributes:
        stack: what is before the number of the layer; all of the module where there is none.
        layer: the number, or -1.
        module: what is behind it, without the kind.
        kind: "weight", "bias", and so on, or "".
    """

    stack: tuple[str, ...]
    layer: int
    module: tuple[str, ...]
    kind: str


def arrange(names: Sequence[str]) -> Arranged:
    """Return rows and columns for tensors of these names, which are all different."""
    ordered = sorted(names, key=_natural)
    parts = _taken_apart(ordered)
    if not any(one.layer >= 0 for one in parts.values()):
        return _modules_by_kind(parts)
    layered = {name: one for name, one in parts.items() if one.layer >= 0}
    lone = {name: one for name, one in parts.items() if one.layer < 0}
    columns, column_of = _columns(layered)
    above, layers, below = _lone_rows(lone), _layer_rows(layered), _lone_rows(lone, below=True)
    places: dict[str, Place] = {}
    rows: list[Head] = []
    for heads, of in (above, layers, below):
        for name, row in of.items():
            places[name] = (len(rows) + row, column_of.get(name))
        rows += heads
    return Arranged(tuple(rows), columns, places)


# --- names


def _taken_apart(names: Sequence[str]) -> dict[str, _Parts]:
    cut = {name: _tokens(name) for name in names}
    counted: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for tokens, _ in cut.values():
        for at, token in enumerate(tokens):
            if _NUMBER.fullmatch(token):
                counted[tokens[:at]].add(token)
    least = 2 if any(len(numbers) > 1 for numbers in counted.values()) else 1
    return {name: _parts(*pair, counted, least) for name, pair in cut.items()}


def _tokens(name: str) -> tuple[tuple[str, ...], str]:
    """Return the parts of a name, and the kind of tensor that the last one says."""
    tokens: list[str] = []
    for token in _CUTS.split(name):
        numbered = _COUNTED.fullmatch(token)
        tokens += numbered.groups() if numbered else (token,)
    if len(tokens) > 1 and tokens[-1] in _KINDS:
        return tuple(tokens[:-1]), tokens[-1]
    return tuple(tokens), ""


def _parts(
    tokens: tuple[str, ...],
    kind: str,
    counted: Mapping[tuple[str, ...], set[str]],
    least: int,
) -> _Parts:
    for at, token in enumerate(tokens):
        if _NUMBER.fullmatch(token) and len(counted[tokens[:at]]) >= least:
            return _Parts(tokens[:at], int(token), tokens[at + 1 :], kind)
    return _Parts(tokens, -1, (), kind)


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return what sorts layer 2 before layer 10."""
    cut = re.split(r"([0-9]{1,18})", name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in cut]


def _rank(text: str, table: Sequence[tuple[str, int]], otherwise: int = 5) -> int:
    return next((rank for like, rank in table if re.search(like, text.lower())), otherwise)


# --- columns


def _columns(layered: Mapping[str, _Parts]) -> tuple[tuple[Head, ...], dict[str, int]]:
    modules = _alike(layered)
    unique = sorted(dict.fromkeys(modules.values()), key=_column_order)
    kept = unique if len(unique) <= _MOST_COLUMNS else unique[: _MOST_COLUMNS - 1]
    place = {module: min(number, len(kept)) for number, module in enumerate(unique)}
    labels = _labels(kept)
    heads = [Head(labels[m], ".".join(m), m[0] if len(m) > 1 else "") for m in kept]
    if len(kept) < len(unique):
        heads.append(Head(_OTHERS, f"{len(unique) - len(kept)} more modules"))
    return tuple(heads), {name: place[module] for name, module in modules.items()}


def _alike(layered: Mapping[str, _Parts]) -> dict[str, tuple[str, ...]]:
    """Return the module of each name, in which a `_ANY` stands for what is counted to many."""
    counted: dict[Hashable, set[str]] = defaultdict(set)
    for one in layered.values():
        for at, token in enumerate(one.module):
            if _NUMBER.fullmatch(token):
                counted[one.stack, _blurred(one.module[:at])].add(token)
    found = {}
    for name, one in layered.items():
        many = [
            _NUMBER.fullmatch(token) is not None
            and len(counted[one.stack, _blurred(one.module[:at])]) > _FEW_ALIKE
            for at, token in enumerate(one.module)
        ]
        module = tuple(_ANY if any_ else t for t, any_ in zip(one.module, many, strict=True))
        found[name] = module or (one.kind or "value",)
    return found


def _blurred(tokens: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_ANY if _NUMBER.fullmatch(token) else token for token in tokens)


def _column_order(module: tuple[str, ...]) -> tuple[object, ...]:
    group = module[0] if len(module) > 1 else ""
    within = ".".join(module[1:]) if group else module[0]
    return _rank(module[0], _GROUPS), group, _rank(within, _WITHIN), _natural(within)


def _labels(paths: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return for each path as many of its last parts as set it apart."""
    found = {}
    longest = max(map(len, paths), default=0)
    for size in range(1, longest + 1):
        ends = Counter(_end(path, size) for path in paths)
        for path in paths:
            if path not in found and (ends[_end(path, size)] == 1 or size >= len(path)):
                found[path] = _end(path, size)
    return found


def _end(path: tuple[str, ...], size: int) -> str:
    spoken = [token for token in path if token != _ANY] or [_ANY]
    return ".".join(spoken[-size:])


# --- rows

_Rows = tuple[list[Head], dict[str, int]]


def _layer_rows(layered: Mapping[str, _Parts]) -> _Rows:
    stacks = list(dict.fromkeys(one.stack for one in layered.values()))
    stacks.sort(key=lambda stack: _rank(".".join(stack), _STACKS))
    groups = _stack_labels(stacks)
    layers = {(one.stack, one.layer) for one in layered.values()}
    together = -(-len(layers) // _MOST_LAYERS)  # of very many, some neighbours are one row
    order = sorted(
        {(stacks.index(stack), layer // together) for stack, layer in layers},
    )
    heads = []
    for number, layer in order:
        stack, first = stacks[number], layer * together
        label = str(first) if together == 1 else f"{first}-{first + together - 1}"
        heads.append(Head(label, ".".join((*stack, label)), groups[stack]))
    place = {key: number for number, key in enumerate(order)}
    of = {
        name: place[stacks.index(one.stack), one.layer // together] for name, one in layered.items()
    }
    return heads, of


def _stack_labels(stacks: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return what sets stacks of layers apart; "" where there is one."""
    if len(stacks) == 1:
        return {stacks[0]: ""}
    common = len(list(takewhile(_all_equal, zip(*stacks, strict=False))))
    found = {}
    for stack in stacks:
        own = list(stack[common:]) or list(stack[-1:])
        while len(own) > 1 and own[-1] in _GENERIC:
            own.pop()
        found[stack] = ".".join(own) or "layers"
    if len(set(found.values())) < len(stacks):
        return {stack: ".".join(stack) or "layers" for stack in stacks}
    return found


def _all_equal(tokens: tuple[str, ...]) -> bool:
    return len(set(tokens)) == 1


def _lone_rows(lone: Mapping[str, _Parts], *, below: bool = False) -> _Rows:
    """Return a row for each module that is in no layer, of those above or those below them."""
    ranks = {name: _rank(one.stack[-1], _LONE) for name, one in lone.items()}
    chosen = {name: one for name, one in lone.items() if (ranks[name] > 0) == below}
    modules = {name: one.stack for name, one in chosen.items()}
    if len(set(modules.values())) > _MOST_LONE:
        modules = {name: stack[:1] for name, stack in modules.items()}
    if len(set(modules.values())) > _MOST_LONE:
        modules = dict.fromkeys(modules, (_OTHERS,))
    rank = {modules[name]: ranks[name] for name in chosen}
    return _rows_of(modules, lambda module: rank[module])


def _rows_of(
    modules: Mapping[str, tuple[str, ...]], rank: Callable[[tuple[str, ...]], int]
) -> _Rows:
    order = sorted(dict.fromkeys(modules.values()), key=rank)
    labels = _labels(order)
    place = {module: number for number, module in enumerate(order)}
    heads = [Head(labels[module], ".".join(module)) for module in order]
    return heads, {name: place[module] for name, module in modules.items()}


def _modules_by_kind(parts: Mapping[str, _Parts]) -> Arranged:
    """Return modules as rows, and their kinds of tensors as columns, for names without layers."""
    modules = {name: one.stack for name, one in parts.items()}
    if len(set(modules.values())) > _MOST_LAYERS:
        modules = {name: stack[:1] for name, stack in modules.items()}
    if len(set(modules.values())) > _MOST_LAYERS:
        modules = dict.fromkeys(modules, (_OTHERS,))
    heads, of = _rows_of(modules, lambda _: 0)
    kinds = list(dict.fromkeys(one.kind or "value" for one in parts.values()))
    places: dict[str, Place] = {
        name: (of[name], kinds.index(one.kind or "value")) for name, one in parts.items()
    }
    return Arranged(tuple(heads), tuple(Head(kind, kind) for kind in kinds), places)

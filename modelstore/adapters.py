"""What a PEFT adapter says: which weights of a model it changes, and where its factors lie.

An adapter directory holds `adapter_config.json` and `adapter_model.safetensors`
(https://huggingface.co/docs/peft, "Checkpoint format"). Merging a plain LoRA adds
``scale * B @ A`` to each adapted weight; `modelstore.codecs.prediction` does the same from the
factors as they are stored here, so nothing of them is copied or converted.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelstore import canonical, disk
from modelstore.blobs.source import FileSource
from modelstore.codecs.factors import MOST_RANK, ROUNDED, Recipe
from modelstore.errors import IntegrityError, NotFoundError, UsageError
from modelstore.formats.base import MalformedError, Source, Span
from modelstore.formats.safetensors import Safetensors
from modelstore.numeric import dtype_named

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PICKLED = "adapter_model.bin"

_FLOAT32 = struct.Struct("<f")
_PREFIX = "base_model.model."
_FACTOR = re.compile(
    r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<factor>[AB])(?:\.[^.]+)??(?(embedding)|\.weight)"
)

_OTHER_MERGES = (
    *("use_dora", "use_qalora", "use_bdlora", "alora_invocation_tokens", "layer_replication"),
    *("target_parameters", "megatron_config", "arrow_config", "kasa_config", "monteclora_config"),
)
"""What makes a merge other than a plain product; false or absent in most adapters."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """One weight that an adapter changes.

    Attributes:
        weight: the name of the merged tensor, as PEFT knows the model.
        shape: of that tensor, (rows, columns).
        recipe: how the factors are put together, rounded as PEFT does by default.
        left, right: where they lie in the adapter's file.
    """

    weight: str
    shape: tuple[int, int]
    recipe: Recipe
    left: Span
    right: Span

    def name_among(self, names: Collection[str]) -> str | None:
        """Return which of the tensors ``names`` of a model it is; None if none or several could be.

        A model may be saved with or without the prefix of its outermost class.
        """
        if self.weight in names:
            return self.weight
        ending = f".{self.weight}"
        alike = [name for name in names if name.endswith(ending) or ending.endswith(f".{name}")]
        return alike[0] if len(alike) == 1 else None


def read_adapter(directory: Path) -> tuple[Adapted, ...]:
    """Return the weights that the adapter in ``directory`` changes, by name.

    Raises:
        NotFoundError: there is no adapter, or only a pickled one.
        UsageError: it is no plain LoRA.
        IntegrityError: its files are damaged.
    """
    config, weights = directory / CONFIG, directory / WEIGHTS
    if not config.is_file():
        raise NotFoundError(f"'{directory}' holds no {CONFIG}, so it is no PEFT adapter")
    if not weights.is_file():
        raise _without_weights(directory)
    with disk.explained(config, "read"):
        data = config.read_bytes()
    with FileSource(weights) as source:
        return parse_adapter(data, _Named(weights.name, source))


def _without_weights(directory: Path) -> NotFoundError:
    if (directory / _PICKLED).is_file():
        return NotFoundError(
            f"'{directory}' holds {_PICKLED}, which mstore does not unpickle",
            f"load it with PEFT and save it anew: it writes {WEIGHTS}",
        )
    return NotFoundError(f"'{directory}' holds no {WEIGHTS}")


@dataclass(frozen=True, slots=True)
class _Named:
    """A file as a format reads it."""

    name: str
    file: FileSource

    @property
    def size(self) -> int:
        return self.file.size

    def read(self, start: int, stop: int) -> bytes:
        return self.file.read(start, stop)


def parse_adapter(config: bytes, weights: Source) -> tuple[Adapted, ...]:
    """Return the weights that an adapter changes, by name.

    Args:
        config: the bytes of its `adapter_config.json`.
        weights: its `adapter_model.safetensors`, of which only the header is read.

    Raises:
        UsageError: it is no plain LoRA.
        IntegrityError: one of the files is damaged, or they do not belong together.
    """
    settings = canonical.parse_mapping(config, CONFIG)
    _check_kind(settings)
    try:
        spans = Safetensors().spans(weights)
    except MalformedError as error:
        raise IntegrityError(f"'{weights.name}' is no safetensors file: {error}") from error
    adapted = (_adapted(module, pair, settings) for module, pair in _pairs(spans).items())
    return tuple(sorted(adapted, key=lambda one: one.weight))


def _check_kind(settings: Mapping[str, Any]) -> None:
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise UsageError(f"the adapter is of the kind {kind!r}; only LORA can be followed")
    for name in _OTHER_MERGES:
        if settings.get(name):
            raise UsageError(f"the adapter has {name} set; only plain LoRA can be followed")


@dataclass(slots=True)
class _Pair:
    """The factors of one module; an embedding's are merged transposed."""

    embedding: bool
    a: Span | None = None
    b: Span | None = None


def _pairs(spans: Iterable[Span]) -> dict[str, _Pair]:
    pairs: dict[str, _Pair] = {}
    for name, span in _tensors(spans):
        found = _FACTOR.fullmatch(name)
        if not found:
            continue  # modules_to_save, biases: whole tensors of the model
        pair = pairs.setdefault(found["module"], _Pair(bool(found["embedding"])))
        if found["factor"] == "A":
            pair.a = span
        else:
            pair.b = span
    return pairs


def _tensors(spans: Iterable[Span]) -> Iterator[tuple[str, Span]]:
    for span in spans:
        for tensor in span.tensors:
            yield tensor.name.removeprefix(_PREFIX), span


def _adapted(module: str, pair: _Pair, settings: Mapping[str, Any]) -> Adapted:
    if pair.a is None or pair.b is None:
        raise IntegrityError(f"the adapter has only one factor of '{module}'")
    (rank, inner), (outer, other) = _shape(pair.a), _shape(pair.b)
    if rank != other or not 1 <= rank <= MOST_RANK or not inner or not outer:
        raise IntegrityError(f"the factors of '{module}' do not fit each other")
    transposed = pair.embedding or bool(settings.get("fan_in_fan_out"))
    left, right = (pair.a, pair.b) if transposed else (pair.b, pair.a)
    rows, columns = (inner, outer) if transposed else (outer, inner)
    recipe = Recipe(
        rank,
        columns,
        dtype_named(left.dtype),
        dtype_named(right.dtype),
        _scale(module, rank, settings),
        left_by_rank=transposed,
        right_by_column=transposed,
    )
    return Adapted(f"{module}.weight", (rows, columns), recipe, left, right)


def _shape(span: Span) -> tuple[int, int]:
    shape = span.tensors[0].shape
    if len(shape) != 2 or dtype_named(span.dtype) not in ROUNDED:
        raise UsageError(
            f"factor '{span.tensors[0].name}' is {span.dtype} of shape {list(shape)}; "
            "only matrices of F32, F16 and BF16 can be followed"
        )
    return shape[0], shape[1]


def _scale(module: str, rank: int, settings: Mapping[str, Any]) -> float:
    alpha = _alpha(module, settings)
    scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    return _single(scale)


def _alpha(module: str, settings: Mapping[str, Any]) -> float:
    """Return the alpha of a module: that of the first pattern that fits the end of its name."""
    alpha = settings.get("lora_alpha")
    patterns = settings.get("alpha_pattern") or {}
    try:
        for pattern, value in patterns.items():
            if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module):
                alpha = value
                break
    except (AttributeError, re.error) as error:
        raise IntegrityError(f"alpha_pattern of {CONFIG} is damaged: {error}") from error
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise IntegrityError(f"{CONFIG} has the lora_alpha {alpha!r}")
    return float(alpha)


def _single(value: float) -> float:
    """Return the float32 nearest to ``value``: what PyTorch multiplies with."""
    try:
        return float(_FLOAT32.unpack(_FLOAT32.pack(value))[0])
    except OverflowError as error:
        raise IntegrityError(f"the adapter's scale {value} is no float32") from error

"""What a run will take: tokens and steps are counted, memory is reckoned, time is tried out.

Counting needs the tokenizer only. Memory is the sum of weights, gradients and optimizer state by
the method's dtypes, and of what the layers keep for the way back. A probe of two steps on the real
model measures both instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore.canonical import parse_mapping
from modelstore.disk import explained
from modelstore.training.base import Base
from modelstore.training.data import Data
from modelstore.training.methods import computes_in_half, within_memory
from modelstore.training.options import TrainOptions
from modelstore.training.probe import Probed, again, device_of, probe_steps
from modelstore.training.quiet import quiet
from modelstore.training.tokens import Samples, tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHOWN = 2
"""Samples that are shown to a user."""

_STATE = 12
"""Bytes per trained value beside its weight: gradient and two moments of AdamW, all float32."""

_PER_TOKEN = 34
"""Bytes that a layer keeps per token and hidden unit for the way back: Korthikanti et al. 2022,
"Reducing Activation Recomputation in Large Transformer Models", without the attention's own matrix,
which is not kept."""

_LOGITS = 10
"""Bytes per token and word of the vocabulary: logits in bfloat16, as float32, and their gradient."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will take.

    Attributes:
        samples: that the model is shown in an epoch; a long text gives several.
        tokens: of those samples.
        learned: tokens of those that have loss.
        truncated, dropped: rows that lost their end, or were too long altogether.
        steps: optimizer steps of the whole run.
        parameters: values of the model.
        memory: bytes that a process needs on its device.
        available: bytes that are free there now; 0 where that is not known.
        seconds_per_step: by a probe; None without one.
    """

    samples: int
    tokens: int
    learned: int
    truncated: int
    dropped: int
    steps: int
    parameters: int
    memory: int
    available: int = 0
    seconds_per_step: float | None = None

    @property
    def seconds(self) -> float | None:
        """Of the whole run; None without a probe."""
        return None if self.seconds_per_step is None else self.seconds_per_step * self.steps


@dataclass(frozen=True, slots=True)
class Shown:
    """One sample as text: what the model is given, and what it learns to answer."""

    context: str
    answer: str


@dataclass(frozen=True, slots=True)
class Measured:
    """An estimate, and the first samples of the run."""

    estimate: Estimate
    shown: tuple[Shown, ...]


def measure(data: Data, options: TrainOptions, base: Base, *, probe: bool = False) -> Measured:
    """Return what training the model ``base`` on ``data`` will take.

    Args:
        base: its weights need not be there, unless for a probe.
        probe: try two steps on the device; this loads the model.

    Raises:
        UsageError: the rows cannot be put into tokens.
        StoreError: the probe needs more memory than there is.
    """
    from transformers import AutoTokenizer

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(base.directory, local_files_only=True)
        samples = tokenize(data.rows, tokenizer, options.max_length)
        with within_memory(options):
            probed = probe_steps(base, samples, options) if probe else None
    return Measured(_estimate(base, samples, options, probed), _shown(samples, tokenizer))


def _estimate(
    source: Base, samples: Samples, options: TrainOptions, probed: Probed | None
) -> Estimate:
    longest = max(map(len, samples.ids))
    return Estimate(
        samples=len(samples.ids),
        tokens=samples.tokens,
        learned=samples.learned_tokens,
        truncated=samples.truncated,
        dropped=samples.dropped,
        steps=steps_of(len(samples.ids), options),
        parameters=source.parameters,
        memory=probed.memory if probed else reckon(source, options, longest),
        available=_available(device_of(options)),
        seconds_per_step=probed.seconds if probed else None,
    )


def steps_of(samples: int, options: TrainOptions) -> int:
    """Return the optimizer steps of a run on ``samples`` samples."""
    return options.steps(samples, processes_of(options))


def processes_of(options: TrainOptions) -> int:
    """Return how many processes train: as many as there are GPUs, unless told otherwise."""
    import torch

    if options.processes:
        return options.processes
    return max(1, torch.cuda.device_count()) if options.device != "cpu" else 1


# --- memory


def reckon(source: Base, options: TrainOptions, tokens: int) -> int:
    """Return the bytes that training takes on the device, roughly.

    Args:
        tokens: of the longest sample.
    """
    config = _config(source.directory)
    layers, width, words = (
        int(config.get(name) or 0) for name in ("num_hidden_layers", "hidden_size", "vocab_size")
    )
    batch = options.batch_size * tokens
    twice = again(options, device_of(options))
    kept = 2 * layers + _PER_TOKEN if twice else _PER_TOKEN * layers
    held, trained = _weights(source, options, layers, width)
    return held + trained * _STATE + batch * (kept * width + _LOGITS * words)


def _weights(source: Base, options: TrainOptions, layers: int, width: int) -> tuple[int, int]:
    """Return the bytes of the weights as they are held, and how many values are trained."""
    values = source.parameters
    if options.method == "full":
        return 4 * values, values
    if options.last_layers is not None:
        return 4 * values, values * min(options.last_layers, layers) // max(1, layers)
    # seven linear maps a layer, each about as wide as the layer is
    adapters = 7 * 2 * layers * width * options.lora_rank
    per_value = 0.6 if options.method == "qlora" else _bytes_per_value(source, options)
    return int(values * per_value) + 4 * adapters, adapters


def _bytes_per_value(source: Base, options: TrainOptions) -> int:
    """Return 2 where weights of one dtype of two bytes are computed with as they are; else 4."""
    half = computes_in_half(source, options, device_of(options))
    return 2 if half and set(source.dtypes.values()) in ({"BF16"}, {"F16"}) else 4


def _available(device: str) -> int:
    import torch

    if device == "cuda":
        free: int = torch.cuda.mem_get_info()[0]
        return free
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def _config(directory: Path) -> Mapping[str, Any]:
    path = directory / "config.json"
    with explained(path, "read"):
        config = parse_mapping(path.read_bytes(), f"'{path}'")
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _shown(samples: Samples, tokenizer: PreTrainedTokenizerBase) -> tuple[Shown, ...]:
    return tuple(
        Shown(tokenizer.decode(ids[:start].tolist()), tokenizer.decode(ids[start:].tolist()))
        for ids, start in zip(samples.ids[:_SHOWN], samples.starts[:_SHOWN], strict=True)
    )

"""Two steps of training on the real model, to see how long they take and how much memory.

The first step takes the longest samples, which decide how much memory is needed; the second takes
the usual ones, which decide how long the run is.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelstore.training.base import Base
from modelstore.training.methods import adapters, computes_in_half, load
from modelstore.training.options import TrainOptions
from modelstore.training.tokens import IGNORED, Samples

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Probed:
    """What two steps took.

    Attributes:
        seconds: per optimizer step.
        memory: bytes at most, of the process on a CPU, of the device on a GPU.
    """

    seconds: float
    memory: int


def probe_steps(source: Base, samples: Samples, options: TrainOptions) -> Probed:
    """Return what two steps of training the model ``source`` take; nothing is kept of them."""
    import torch

    cuda = device_of(options) == "cuda"
    half = computes_in_half(source, options, device_of(options))
    model = _model(source, options, device_of(options), half=half)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=options.rate)
    by_length = sorted(range(len(samples.ids)), key=lambda index: -len(samples.ids[index]))
    usual = by_length[len(by_length) // 2 :]
    for some in (by_length, usual):
        began = time.monotonic()
        for _ in range(options.gradient_accumulation):
            _loss(model, _batch(samples, some[: options.batch_size]), cuda, half).backward()
        optimizer.step()
        optimizer.zero_grad()
        if cuda:
            torch.cuda.synchronize()
        seconds = time.monotonic() - began
    memory = torch.cuda.max_memory_allocated() if cuda else _peak()
    del model, weights, optimizer
    if cuda:
        torch.cuda.empty_cache()  # the run needs it
    return Probed(seconds, memory)


def device_of(options: TrainOptions) -> str:
    """Return where a run would train here, "cpu" or "cuda"."""
    import torch

    return "cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu"


def _model(source: Base, options: TrainOptions, device: str, *, half: bool) -> Any:
    from peft import get_peft_model

    model = load(source, options, half=half)
    if options.method != "qlora":  # which puts itself on the device
        model = model.to(device)
    if again(options, device):
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    wanted = adapters(options)
    return (model if wanted is None else get_peft_model(model, wanted)).train()


def again(options: TrainOptions, device: str) -> bool:
    """Tell whether activations are computed again on the way back instead of being kept."""
    asked = options.activation_checkpointing
    return device == "cuda" if asked is None else asked


def _batch(samples: Samples, indexes: list[int]) -> dict[str, Tensor]:
    """Return some samples as one batch, filled up to the longest of them."""
    import torch

    width = max(len(samples.ids[index]) for index in indexes)
    ids = torch.zeros(len(indexes), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for row, index in enumerate(indexes):
        found, start = torch.tensor(samples.ids[index].tolist()), samples.starts[index]
        ids[row, : len(found)], mask[row, : len(found)] = found, 1
        labels[row, start : len(found)] = found[start:]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _loss(model: Any, batch: dict[str, Tensor], cuda: bool, half: bool) -> Tensor:
    import torch

    device = "cuda" if cuda else "cpu"
    with torch.autocast(device, torch.bfloat16) if half else nullcontext():
        loss: Tensor = model(**{name: values.to(device) for name, values in batch.items()}).loss
    return loss


def _peak() -> int:
    """Return the most memory this process had so far, in bytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

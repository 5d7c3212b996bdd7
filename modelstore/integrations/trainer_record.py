"""What a Trainer knows of a training, as a version records it; the names are those of `mstore train`."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from modelstore.curve import CurvePoint
from modelstore.integrations.saving import is_adapted

MOST_POINTS = 1000
"""Points of a curve at most; each takes some 20 bytes of the manifest."""

_PACKAGES = ("mstore", "torch", "transformers", "trl", "peft", "accelerate", "tokenizers")


def parameters(args: Any, model: Any) -> dict[str, object]:
    """Return the parameters of a training with the `TrainingArguments` ``args``."""
    found = {
        "epochs": args.num_train_epochs,
        "max_steps": max(args.max_steps, 0),
        "batch_size": args.per_device_train_batch_size,
        "gradient_accumulation": args.gradient_accumulation_steps,
        "learning_rate": args.learning_rate,
        "seed": args.seed,
        "device": str(args.device),
        "processes": args.world_size,
    }
    if is_adapted(model):
        adapter = next(iter(model.peft_config.values()))
        found["method"] = str(adapter.peft_type.value).lower()
        found["lora_rank"] = getattr(adapter, "r", None)
        found["lora_alpha"] = getattr(adapter, "lora_alpha", None)
    return found


def metrics(state: Any, seconds: float) -> dict[str, object]:
    """Return what the `TrainerState` ``state`` has measured, after ``seconds`` of training."""
    found: dict[str, object] = {
        "steps": state.global_step,
        "epoch": state.epoch,
        "training_time": round(seconds, 3),
    }
    for row in state.log_history:
        found |= {key: row[key] for key in row if key == "loss" or key.startswith("eval_")}
    if state.best_metric is not None:
        found["best_metric"] = state.best_metric
    if state.num_input_tokens_seen:
        found["tokens"] = int(state.num_input_tokens_seen)
    return found


def environment() -> dict[str, object]:
    """Return the versions of Python and of the packages that take part."""
    found: dict[str, object] = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def curve(history: Iterable[Mapping[str, Any]]) -> tuple[CurvePoint, ...]:
    """Return how the loss went, of at most `MOST_POINTS` points that are evenly apart.

    Args:
        history: the rows that a Trainer has logged; each has a step, and may have a loss (the mean
            since the row before) and an eval_loss. What is not finite is left out.
    """
    losses: dict[int, str] = {}
    measured: dict[int, str] = {}
    for row in history:
        for key, found in (("loss", losses), ("eval_loss", measured)):
            if key in row and math.isfinite(row[key]):
                found[int(row["step"])] = f"{row[key]:.6g}"
    steps = sorted({*losses, *measured})
    apart = max(1, -(-len(steps) // MOST_POINTS))
    kept = sorted(steps[::-1][::apart])
    return tuple(CurvePoint(step, losses.get(step, ""), measured.get(step, "")) for step in kept)

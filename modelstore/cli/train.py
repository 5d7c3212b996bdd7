"""``mstore train``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from modelstore.cli import common, complete, output
from modelstore.names import parse_model
from modelstore.ops.commit import CommitOptions
from modelstore.training.options import DEVICES, LEARNING_RATES, METHODS, Step
from modelstore.training.plan import Plan, options_for, plan
from modelstore.training.run import Trained
from modelstore.training.run import train as run_plan

_RATES = ", ".join(f"{rate:g} for {method}" for method, rate in LEARNING_RATES.items())
_OPTIONS = (
    click.option("--epochs", type=int, help="Passes over the data.  [default: the line's, or 1]"),
    click.option("--batch-size", type=int, help="Samples at once.  [default: the line's, or 1]"),
    click.option("--learning-rate", type=float, help=f"Of AdamW.  [default: {_RATES}]"),
    click.option("--max-steps", type=int, help="Stop after so many optimizer steps."),
    click.option("--method", type=click.Choice(METHODS), help="[default: lora, merged at the end]"),
    click.option("--max-length", type=int, help="Tokens of a sample.  [default: 1024]"),
    click.option("--seed", type=int, help="Of order and adapters.  [default: 42]"),
    click.option("--gradient-accumulation", type=int, help="Batches per step.  [default: 1]"),
    click.option("--device", type=click.Choice(DEVICES), help="[default: the line's, or auto]"),
)

_REDRAW = 0.1
"""Seconds between two states of a line that is rewritten."""


def _training_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command()
@click.argument("line", metavar="MODEL", shell_complete=complete.models)
@click.option(
    "--data",
    "data_files",
    multiple=True,
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Rows to learn: .jsonl, .json or .txt; may be given several times.",
)
@click.option(
    "--from",
    "source",
    default="",
    metavar="REF",
    shell_complete=complete.refs,
    help="The version to start from; default: the model's ACTIVE one.",
)
@click.option(
    "--base",
    default="",
    metavar="DIR_OR_HUB_ID",
    help="Start from a directory, or from a model of the Hugging Face Hub.",
)
@_training_options
@click.option("-m", "--message", default="", help="Why this version exists.")
@click.option("--note", default="", help="A note for the registry.")
@click.option("--activate", is_flag=True, help="Make the new version ACTIVE.")
@common.store_options
@common.quiet_option
@common.json_option
@click.pass_context
def train(
    ctx: click.Context,
    /,
    line: str,
    data_files: tuple[Path, ...],
    source: str,
    base: str,
    **given: Any,
) -> None:
    """Fine-tune a version; the result is the model's next version.

    The loss is on answers only: on the assistant's turns of messages, on the completion of prompt
    and completion, on the output of instruction, input and output, and on all of a text.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    said = CommitOptions(
        message=given.pop("message"),
        note=given.pop("note"),
        activate=given.pop("activate"),
        author=os.environ.get("MSTORE_AUTHOR", ""),
    )
    name = parse_model(line)
    options = options_for(store, name, given)
    run = plan(store, name, data_files, options, source=source, base=base)
    silent = chosen.json or chosen.quiet
    if not silent:
        _show_plan(run)
    with _Line(silent) as live:
        trained = run_plan(store, run, said, live.step, live.progress)
    _report(chosen, trained)


def _show_plan(run: Plan) -> None:
    options = run.options
    limit = f", at most {options.max_steps} steps" if options.max_steps else ""
    files = [
        f"{file.name} ({_count(file.rows, 'row')}, {output.size(file.size)})"
        for file in run.data.files
    ]
    batches = f"{options.batch_size} x {options.gradient_accumulation}"
    output.hint(f"{run.model} from {run.base}")
    output.hint(f"data     {', '.join(files)}: {_count(len(run.data.rows), 'answer')}")
    output.hint(
        f"method   {options.method}, {_count(options.epochs, 'epoch')}{limit}, batch {batches}, "
        f"device {options.device}"
    )
    output.hint(
        f"         learning rate {options.rate:g}, max length {options.max_length}, "
        f"seed {options.seed}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


class _Line:
    """Shows where a run is: in one line that is rewritten on a terminal, else in a line per step."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._live = sys.stderr.isatty()
        self._shown_at = 0.0
        self._ending = ""

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def step(self, step: Step) -> None:
        """Show one step of the training."""
        left = step.seconds / step.number * (step.total - step.number)
        text = (
            f"step {step.number}/{step.total}  loss {step.loss:.4f}  "
            f"{step.tokens:,} tokens  {step.seconds:.0f} s, {left:.0f} s left"
        )
        if self._live:
            self._rewrite(text, stays=True)
        elif not self._silent:
            click.echo(text, err=True)
        if step.number == step.total:
            self._end()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Show how far the bytes before or after the training are; a `Progress`."""
        if self._live and time.monotonic() - self._shown_at > _REDRAW:
            self._rewrite(f"{stage} {done / total:.0%}" if total else stage, stays=False)

    def _rewrite(self, text: str, *, stays: bool) -> None:
        if not self._silent:
            click.echo(f"\r\x1b[K{text}", err=True, nl=False)
            self._shown_at = time.monotonic()
            self._ending = "\n" if stays else "\r\x1b[K"

    def _end(self) -> None:
        """Put the cursor where the next line begins; only a step stays to be read."""
        click.echo(self._ending, err=True, nl=False)
        self._ending = ""


def _report(chosen: common.Settings, trained: Trained) -> None:
    made, metrics = trained.committed, trained.result.metrics
    ref = f"{made.model}@{made.version}"
    for warning in made.warnings:
        output.warn(warning)
    if chosen.json:
        output.emit("train", {"ref": ref, **asdict(made), **asdict(trained.result)})
        return
    if chosen.quiet:
        output.say(ref)
        return
    if not made.created:
        output.say(f"Nothing to commit: the training changed no weight of {ref}")
        return
    active = ", ACTIVE" if made.active else ""
    share = f" ({made.stored / made.size:.1%})" if made.size else ""
    output.say(f"{ref}  {made.id[:12]}{active}")
    output.say(
        f"  {made.files} files, {output.size(made.size)}; "
        f"{output.size(made.stored)} new in the store{share}"
    )
    output.say(
        f"  loss {metrics['first_loss']:.4f} -> {metrics['final_loss']:.4f} "
        f"in {metrics['steps']} steps, {metrics['training_time']:.0f} s"
    )
    for what in ("truncated", "dropped"):
        count = metrics.get(f"samples_{what}", 0)
        if count:
            output.warn(f"{count} samples were {what}, being too long; see --max-length")

"""``mstore train``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from modelstore.cli import common, complete, output
from modelstore.cli.train_view import (
    Line,
    duration,
    plan_data,
    plan_rows,
    presets_table,
    replay_data,
    replay_lines,
    runs_table,
    sample_lines,
)
from modelstore.errors import ConflictError, UsageError
from modelstore.names import parse_model
from modelstore.ops.commit import CommitOptions
from modelstore.ops.ollama import usual_places
from modelstore.ops.resolve import resolve
from modelstore.store import Store
from modelstore.training.base import open_base
from modelstore.training.estimate import Measured, Shown, measure
from modelstore.training.finetune import resolve_device
from modelstore.training.methods import smaller
from modelstore.training.options import DEVICES, LEARNING_RATES, WEIGHTS_FORMATS
from modelstore.training.plan import Plan, Request, downloaded, planned
from modelstore.training.presets import AUTO, presets
from modelstore.training.replay import Whereabouts, replay
from modelstore.training.run import Trained, resume
from modelstore.training.run import train as run_plan
from modelstore.training.runs import discard_run, list_runs, open_run
from modelstore.training.settings import File, read_file, settle
from modelstore.training.start import laid_out, looked_at

_WORTH_PROBING = 100
"""Steps of a run beside which two more do not matter."""

_RATES = ", ".join(f"{rate:g} for {method}" for method, rate in LEARNING_RATES.items())
_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--epochs", type=int, help="Passes over the data."),
    click.option("--batch-size", type=int, help="Samples at once."),
    click.option("--learning-rate", type=float, help=f"Of AdamW.  [default: {_RATES}]"),
    click.option("--max-steps", type=int, help="Stop after so many optimizer steps."),
    click.option(
        "--method",
        metavar="lora|qlora|full|last-N",
        help="Train adapters and merge them (qlora: on a base in 4 bits), all weights, or N layers.",
    ),
    click.option("--max-length", type=int, help="Tokens of a sample at most."),
    click.option("--seed", type=int, help="Of order and adapters.  [default: 42]"),
    click.option("--gradient-accumulation", type=int, help="Batches per step."),
    click.option("--device", type=click.Choice(DEVICES), help="Where to train."),
    click.option("--processes", type=int, help="That train together.  [default: one per GPU]"),
    click.option(
        "--weights-format",
        type=click.Choice(WEIGHTS_FORMATS),
        help="bin writes pytorch_model.bin.  [default: safetensors]",
    ),
)
_SETTINGS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "max_steps",
    "method",
    "max_length",
    "seed",
    "gradient_accumulation",
    "device",
    "processes",
    "weights_format",
)


def _training_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command()
@click.argument("line", metavar="[MODEL]", required=False, shell_complete=complete.models)
@click.option(
    "--data",
    multiple=True,
    metavar="FILE",
    type=_FILE,
    help="Rows to learn: .jsonl, .json, .csv or .txt; may be given several times.",
)
@click.option(
    "--eval",
    "evaluation",
    multiple=True,
    metavar="FILE",
    type=_FILE,
    help="Rows to evaluate on; they are never learned.",
)
@click.option("--eval-split", "split", type=float, help="Or set aside this share of the rows.")
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
    metavar="BASE",
    help="Or a directory, a .gguf file, an Ollama name, or an id of the Hugging Face Hub.",
)
@click.option("--preset", default="", help="What the settings begin with: laptop, gpu or auto.")
@_training_options
@click.option(
    "-c", "--config", metavar="FILE", type=_FILE, help="Settings in a TOML file; flags win."
)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any other setting.")
@click.option("-m", "--message", default="", help="Why this version exists.")
@click.option("--note", default="", help="A note for the registry.")
@click.option("--activate", is_flag=True, help="Make the new version ACTIVE.")
@click.option("-n", "--dry-run", is_flag=True, help="Show plan, samples and estimate, and stop.")
@click.option("--list-presets", is_flag=True, help="Show what presets there are, and stop.")
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[RUN]",
    help="Go on with a run from its last checkpoint; default: the newest.",
)
@click.option(
    "--replay",
    "replayed",
    default="",
    metavar="REF",
    shell_complete=complete.refs,
    help="Train a version again, and say whether the same comes out.",
)
@click.option("--list-runs", is_flag=True, help="Show runs that are not over, and stop.")
@click.option("--discard", default="", metavar="RUN", help="Give up a run, and stop.")
@common.store_options
@common.quiet_option
@common.json_option
@click.pass_context
def train(ctx: click.Context, /, **given: Any) -> None:
    """Fine-tune a version; the result is the model's next version.

    The loss is on answers only: on the assistant's turns of messages, on the completion of prompt
    and completion, on the output of instruction, input and output, and on all of a text.
    """
    chosen = common.settings(ctx)
    if given["list_presets"]:
        _list_presets(chosen)
    elif given["list_runs"]:
        _list_runs(chosen)
    elif given["discard"]:
        _discard(chosen, given["discard"])
    elif given["resume"] is not None:
        _resume(ctx, chosen, given)
    elif given["replayed"]:
        _replay(ctx, chosen, given)
    else:
        _train(chosen, given)


def _list_presets(chosen: common.Settings) -> None:
    found = presets()
    if chosen.json:
        output.emit("train-presets", [asdict(preset) for preset in found])
        return
    for preset in found:
        output.say(f"{preset.name}: {preset.description}")
    output.say("")
    output.table(presets_table({preset.name: preset.values for preset in found}))
    output.hint(f"{AUTO} is gpu where torch sees a GPU, else laptop")


def _list_runs(chosen: common.Settings) -> None:
    found = list_runs(chosen.open())
    if chosen.json:
        output.emit("train-runs", [asdict(run) for run in found])
    elif not found:
        output.hint("no run is under way or to be continued")
    else:
        output.table(runs_table(found), right=(4, 5))


def _discard(chosen: common.Settings, name: str) -> None:
    run = discard_run(chosen.open(), name)
    if chosen.json:
        output.emit("train-discard", asdict(run))
    elif not chosen.quiet:
        output.say(f"Discarded the run {run.id}, {output.size(run.size)}")


def _train(chosen: common.Settings, given: Mapping[str, Any]) -> None:
    store = chosen.open()
    silent = chosen.json or chosen.quiet
    plan = _plan(store, given, silent)
    resolve_device(plan.options.device)  # before any work is put into it
    if given["dry_run"]:
        measured = _probed(store, plan)
        _show(chosen, replace(plan, estimate=measured.estimate), measured.shown)
        return
    if not silent:
        plan = _estimated(store, plan)
        _print_plan(plan)
    with Line(silent) as live:
        trained = run_plan(store, plan, _commit_options(given), live.step, live.progress)
    _report(chosen, trained)


def _resume(ctx: click.Context, chosen: common.Settings, given: Mapping[str, Any]) -> None:
    store = chosen.open()
    silent = chosen.json or chosen.quiet
    whole = given["data"] or given["config"]  # the whole command is said again
    if not whole:
        _check_alone(ctx, given, "resume", "line")
    begun = open_run(store, given["resume"])
    name, known = begun.id, begun.value()["plan"]
    if given["line"] and str(known["model"]) != parse_model(given["line"]):
        raise ConflictError(f"the run {name} is of {known['model']}", begun.command)
    plan = None
    if whole and given["line"]:
        start = {} if given["base"] or given["source"] else {"base": str(known["base"])}
        plan = _plan(store, {**given, **start}, silent)
    if not silent:
        (run,) = (one for one in list_runs(store) if one.id == name)
        output.hint(f"run {name}: {run.model} from {run.base}, goes on from step {run.step}")
    with Line(silent) as live:
        trained = resume(store, name, live.step, live.progress, given=plan)
    _report(chosen, trained)


def _check_alone(ctx: click.Context, given: Mapping[str, Any], name: str, *with_it: str) -> None:
    """Raise if anything else was said that would be ignored."""
    said = [one for one in given if ctx.get_parameter_source(one) is ParameterSource.COMMANDLINE]
    others = [one for one in said if one not in {name, *with_it}]
    if others:
        flag = "--" + others[0].replace("_", "-")
        raise UsageError(
            f"--{name} goes by what was said when the training was begun; {flag} cannot be said",
            f"mstore train --{name} {'RUN' if name == 'resume' else 'REF'}",
        )


def _replay(ctx: click.Context, chosen: common.Settings, given: Mapping[str, Any]) -> None:
    _check_alone(ctx, given, "replay", "replayed", "data", "base")
    store = chosen.open()
    version = resolve(store, given["replayed"], chosen.context())
    with Line(chosen.json or chosen.quiet) as live:
        where = Whereabouts(given["data"], given["base"], _ollama_places())
        made = replay(store, version, where, live.step, live.progress)
    if chosen.json:
        output.emit("train-replay", replay_data(made))
    elif not chosen.quiet:
        for line in replay_lines(made):
            output.say(line)
    ctx.exit(0 if made.equal else 1)


def _plan(store: Store, given: Mapping[str, Any], silent: bool) -> Plan:
    if not given["line"]:
        raise UsageError("no model is named", "mstore train MODEL --data FILE")
    model = parse_model(given["line"])
    file = read_file(given["config"]) if given["config"] else File()
    settled = settle(
        store,
        model,
        {name: given[name] for name in _SETTINGS},
        preset_name=given["preset"],
        file=file,
        sets=given["sets"],
    )
    request = _request(model, given, file)
    found = planned(store, request, settled.options)
    if found.hub and not silent:
        output.hint(f"downloading {found.hub} from the Hugging Face Hub")
    return replace(downloaded(found), preset=settled.preset, sources=settled.sources)


def _request(model: Any, given: Mapping[str, Any], file: File) -> Request:
    """Return what is asked for: what a flag says takes the place of what the file says."""
    starts = given["source"], given["base"]
    evaluates = given["evaluation"], given["split"]
    source, base = starts if any(starts) else (file.source, file.base)
    evaluation, split = evaluates if any(evaluates) else (file.evaluation, file.split)
    return Request(
        model,
        tuple(given["data"] or file.data),
        tuple(evaluation),
        split or 0.0,
        source,
        base,
        _ollama_places(),
    )


def _ollama_places() -> tuple[Path, ...]:
    return usual_places(os.environ, Path.home())


def _commit_options(given: Mapping[str, Any]) -> CommitOptions:
    return CommitOptions(
        message=given["message"],
        note=given["note"],
        activate=given["activate"],
        author=os.environ.get("MSTORE_AUTHOR", ""),
    )


# --- what is shown


def _estimated(store: Store, plan: Plan) -> Plan:
    """Return the plan with what it takes, where that is quick to tell beside the run itself."""
    with looked_at(store, plan.start) as base:
        found = measure(plan.data, plan.options, base).estimate if base else None
    if found is not None and found.steps >= _WORTH_PROBING:
        found = _probed(store, plan).estimate
    return replace(plan, estimate=found)


def _probed(store: Store, plan: Plan) -> Measured:
    with laid_out(store, plan.start) as directory:
        return measure(plan.data, plan.options, open_base(directory), probe=True)


def _print_plan(plan: Plan) -> None:
    for name, value in plan_rows(plan):
        output.hint(f"{name:8} {value}")
    _warn_of_memory(plan)


def _warn_of_memory(plan: Plan) -> None:
    estimate = plan.estimate
    if estimate is not None and 0 < estimate.available < estimate.memory:
        output.warn(
            f"this needs about {output.size(estimate.memory)} of memory and "
            f"{output.size(estimate.available)} are free; {smaller(plan.options)} needs less"
        )


def _show(chosen: common.Settings, plan: Plan, shown: Sequence[Shown]) -> None:
    """Print a plan that is not carried out."""
    if chosen.json:
        samples = [asdict(one) for one in shown]
        output.emit("train-plan", {**plan_data(plan), "samples": samples})
        return
    output.pairs(dict(plan_rows(plan)))
    _warn_of_memory(plan)
    for number, sample in enumerate(shown, start=1):
        output.say("")
        output.say(f"sample {number}: what is given |, what is learned >")
        for line in sample_lines(sample):
            click.echo(line)


def _report(chosen: common.Settings, trained: Trained) -> None:
    made, metrics = trained.committed, trained.result.metrics
    ref = f"{made.model}@{made.version}"
    for warning in made.warnings:
        output.warn(warning)
    if chosen.json:
        result = {name: value for name, value in asdict(trained.result).items() if name != "curve"}
        output.emit("train", {"ref": ref, **asdict(made), **result})
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
        f"in {output.count(int(metrics['steps']), 'step')}, {duration(metrics['training_time'])}"
    )
    if "eval_loss" in metrics:
        before = metrics.get("eval_loss_before")
        began = "" if before is None else f"{before:.4f} -> "
        output.say(f"  evaluation loss {began}{metrics['eval_loss']:.4f}")
    for what in ("truncated", "dropped"):
        count = metrics.get(f"samples_{what}", 0)
        if count:
            output.warn(f"{count} samples were {what}, being too long; see --max-length")

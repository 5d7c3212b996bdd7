"""``mstore commit``."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path

import click

from modelstore.cli import common, complete, output
from modelstore.errors import UsageError
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, Committed
from modelstore.ops.commit import commit as make
from modelstore.ops.resolve import default_model
from modelstore.ops.working import checkout_at
from modelstore.store import Store, model_of_path


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("-m", "--message", default="", help="Why this version exists.")
@click.option(
    "--parent",
    "parents",
    multiple=True,
    metavar="REF",
    shell_complete=complete.refs,
    help="What it was made from; default: what PATH was checked out from, else the latest.",
)
@click.option("--version", "version", default="", metavar="V", help="Its number; default: next.")
@click.option("--major", is_flag=True, help="Start the next major line: v2.0.")
@click.option("--metric", "metrics", multiple=True, metavar="K=V", help="A metric, as loss=1.42.")
@click.option("--param", "parameters", multiple=True, metavar="K=V", help="As epochs=3.")
@click.option("--note", default="", help="A note for the registry.")
@click.option("--description", default="", help="What the version is, in a sentence.")
@click.option("--base-model", default="", metavar="NAME", help="What the line starts from.")
@click.option("--author", default="", help="Who made it; default: MSTORE_AUTHOR.")
@click.option("--allow-empty", is_flag=True, help="Commit even what equals its parent.")
@click.option("--activate", is_flag=True, help="Make it ACTIVE.")
@click.option("--move", is_flag=True, help="Move the files into the version's directory.")
@click.option("--follow-symlinks", is_flag=True, help="Take what symlinks outside lead to.")
@click.option(
    "--adapter",
    type=click.Path(path_type=Path),
    help="The PEFT adapter that was merged into PATH; makes the version smaller.",
)
@common.store_options
@common.quiet_option
@common.json_option
@click.pass_context
def commit(ctx: click.Context, /, path: Path, parents: tuple[str, ...], **given: object) -> None:
    """Make a directory or file the next version of a model.

    PATH stays as it is. A new model name (-M) starts a new line with v1.0.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    model = _model(store, chosen, path)
    options = CommitOptions(
        **{
            **given,  # type: ignore[arg-type]  # the options above have the names of the fields
            "parents": parents or None,
            "metrics": _pairs(given["metrics"]),
            "parameters": _pairs(given["parameters"]),
            "author": str(given["author"]) or os.environ.get("MSTORE_AUTHOR", ""),
        }
    )
    with output.progress(chosen) as progress:
        made = make(store, path, model, options, progress)
    _report(chosen, made, said=bool(options.message), activated=options.activate)


def _model(store: Store, chosen: common.Settings, path: Path) -> ModelName:
    """Return the model to commit to: -M, else what PATH belongs to, else the default."""
    inside = model_of_path(store, path)
    known = checkout_at(store, path)
    model = chosen.model_name() or (inside and inside[0]) or (known and known.model)
    model = model or default_model(store)
    if model is None:
        name = next(iter(store.models()), "MODEL")
        raise UsageError(
            "which model is this a version of?", f"say: mstore commit {path} -M {name}"
        )
    return model


def _pairs(words: object) -> dict[str, object]:
    values: dict[str, object] = {}
    for word in words if isinstance(words, tuple) else ():
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise click.BadParameter(f"{word!r} is not of the form name=value")
        values[key] = _value(value)
    return values


def _value(text: str) -> int | float | str:
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _report(chosen: common.Settings, made: Committed, *, said: bool, activated: bool) -> None:
    for warning in made.warnings:
        output.warn(warning)
    ref = f"{made.model}@{made.version}"
    if chosen.json:
        output.emit("commit", {"ref": ref, **asdict(made)})
    elif chosen.quiet:
        output.say(ref)
    elif not made.created:
        active = ", which is ACTIVE now" if activated and made.active else ""
        output.say(f"Nothing to commit: the files are those of {ref}{active}")
    else:
        active = ", ACTIVE" if made.active else ""
        output.say(f"{ref}  {made.id[:12]}{active}")
        share = f" ({made.stored / made.size:.1%})" if 0 < made.size >= made.stored else ""
        output.say(
            f"  {output.count(made.files, 'file')}, {output.size(made.size)}; "
            f"{output.size(made.stored)} new in the store{share}"
        )
    if chosen.quiet or chosen.json:
        return
    if made.skipped:
        output.hint(f"skipped: {', '.join(made.skipped)}")
    if made.created and not said:
        output.hint(f"no message (-m) says why; add a note: mstore note {ref} TEXT")

"""``python -m tuning.model_manager``: the four commands of the directory's own README.

They answer from the store, in plain text, as they did before there was one.
Everything else is ``mstore``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from modelstore.cli import common, failures, output
from modelstore.errors import BadNameError
from modelstore.names import ModelName, parse_model, printable
from modelstore.ops.describe import Description
from modelstore.ops.history import History, log
from modelstore.ops.pointer import set_active as move
from modelstore.ops.resolve import resolve, resolve_model
from modelstore.registry import VIEW
from modelstore.store import Store

NAME = "python -m tuning.model_manager"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@common.store_options
@click.pass_context
def cli(ctx: click.Context, /, **_: Any) -> None:
    """Versions of tuned models: list, inspect, and choose the active one.

    The same store as mstore's, which can do more: mstore --help.
    """
    common.settings(ctx)


@cli.command("list")
@common.store_options
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List all versions, newest first; a * marks the active one."""
    chosen = common.settings(ctx)
    store = chosen.open()
    histories = log(store, context=chosen.context())
    output.notices([history.state for history in histories])
    for number, history in enumerate(histories):
        if number:
            output.say("")
        _section(history)
    for model in _foreign(store):
        output.warn(f"{model} has a registry that mstore did not make; run: mstore adopt")
    if not histories:
        output.hint("no models yet")


@cli.command()
@click.argument("version")
@common.store_options
@click.pass_context
def info(ctx: click.Context, version: str) -> None:
    """Show one version: its training parameters, metrics and notes."""
    chosen = common.settings(ctx)
    store = chosen.open()
    resolved = resolve(store, version, chosen.context())
    state = store.state(resolved.model)
    output.notices([state])
    about = Description(resolved.model, state).whole(resolved.entry)
    output.pairs(
        {
            "Model:": about["model"],
            "Version:": about["version"] + (" (active)" if about["active"] else ""),
            "Base model:": about["base_model"],
            "Created:": about["created_at"],
            "Directory:": str(store.version_dir(resolved.model, resolved.entry.version)),
            "Files:": "" if about["id"] else "missing",
            "Description:": about["description"],
            "Notes:": about["notes"],
        }
    )
    _table("Training parameters:", about["training_parameters"])
    _table("Metrics:", about["metrics"])


@cli.command()
@common.store_options
@click.pass_context
def active(ctx: click.Context) -> None:
    """Show the active version, of every model unless --model names one."""
    chosen = common.settings(ctx)
    store = chosen.open()
    named = chosen.model_name() is not None
    models = [resolve_model(store, chosen.context())] if named else store.models()
    states = {model: store.state(model) for model in models}
    output.notices(list(states.values()))
    for model, state in states.items():
        output.say(f"{model}: {state.active or 'no active version'}")


@cli.command("set-active")
@click.argument("version")
@common.store_options
@click.pass_context
def set_active(ctx: click.Context, version: str) -> None:
    """Make a version the active one."""
    chosen = common.settings(ctx)
    store = chosen.open()
    moved = move(store, resolve(store, version, chosen.context()))
    was = f" (was {moved.before})" if moved.before not in ("", moved.after) else ""
    output.say(f"Active version of {moved.model}: {moved.after}{was}")


def _section(history: History) -> None:
    base = history.state.base_model
    output.say(f"{history.model}{f' ({base})' if base else ''}")
    if not history.entries:
        output.say("  no versions yet")
    for entry in history.entries:
        row = history.description.row(entry)
        mark, word = ("*", " (active)") if row["active"] else (" ", "")
        missing = "" if row["id"] else "  its files are missing"
        output.say(f"{mark} {row['version']}{word}{missing}")
        output.pairs(
            {
                "created": row["created_at"],
                "description": row["description"],
                "training parameters": _line(row["training_parameters"]),
                "metrics": _line(row["metrics"]),
                "notes": row["notes"],
            },
            indent="    ",
        )


def _line(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_shown(key, value)}" for key, value in values.items())


def _table(title: str, values: Mapping[str, Any]) -> None:
    if not values:
        return
    output.say(title)
    for key, value in values.items():
        click.echo(f"  {printable(key)}: {printable(_shown(key, value))}")


def _shown(key: str, value: object) -> str:
    is_size = key == "model_size" and isinstance(value, int) and value > 0
    return output.size(value) if is_size else output.number(value)


def _foreign(store: Store) -> list[ModelName]:
    """Return the models whose registry somebody else made."""
    found = []
    for path in sorted(store.root.glob(f"*/{VIEW}")):
        with suppress(BadNameError):
            model = parse_model(path.parent.name)
            if store.registry(model).is_foreign():
                found.append(model)
    return found


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; the codes are those of mstore."""
    failures.run(cli, None if args is None else list(args), name=NAME)


if __name__ == "__main__":
    main()

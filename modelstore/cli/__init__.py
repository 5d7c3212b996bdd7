"""The command line: ``mstore``, one module a verb.

Only this package prints, exits and reads the environment.
A command's module is imported when the command is run, so that ``mstore log`` loads nothing it
does not need.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from modelstore.cli import common, completion, failures, output

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "Make a directory a store"),
    "adopt": ("adopt", "Take over a directory of models made without mstore"),
    "use": ("use", "Choose the default model"),
    "commit": ("commit", "Make a directory or file the next version of a model"),
    "train": ("train", "Fine-tune a version; the result is the model's next version"),
    "log": ("log", "Show the history, newest first"),
    "list": ("list_", "List models and versions"),
    "show": ("show", "Show one version, file or tensor"),
    "info": ("show", "Show one version (the old word for show)"),
    "active": ("active", "Print the ACTIVE version"),
    "set-active": ("set_active", "Move ACTIVE to a version"),
    "rollback": ("rollback", "Move ACTIVE back to what it was"),
    "alias": ("alias", "Give a version a further name"),
    "note": ("note", "Add a note to a version"),
    "rm": ("rm", "Remove versions"),
    "undelete": ("undelete", "Bring back a version that was removed"),
    "checkout": ("checkout", "Write the files of a version"),
    "path": ("path", "Print the directory of a version, writing it if need be"),
    "status": ("status", "Show what is checked out, and what was changed there"),
    "diff": ("diff", "Compare version A with version B (default: ACTIVE of the same model)"),
    "verify": ("verify", "Check every byte of versions (default: ACTIVE of every model)"),
    "fsck": ("fsck", "Check the whole store, and repair it"),
    "gc": ("gc_", "Take away what no version needs"),
    "du": ("du", "Show what versions cost"),
    "repack": (
        "repack",
        "Encode versions anew where that makes them smaller (default: all of them)",
    ),
    "backup": (
        "backup",
        "Back up the whole store to DEST, where only what is new moves; or look after backups",
    ),
    "restore": (
        "restore",
        "Bring back everything, or models and versions, from the backup at FROM into DIR",
    ),
    "remote": ("remote", "Give places elsewhere a name, to push to and to pull from"),
    "push": (
        "push",
        "Send models to a remote (default: origin, and all models that have versions)",
    ),
    "fetch": (
        "fetch",
        "Bring what a remote has, and change no model (default: origin, all models)",
    ),
    "pull": ("pull", "Bring what a remote has, and take it over (default: origin, all models)"),
    "clone": ("clone", "Make a new store of what a remote has"),
    "export": ("export", "Write a version as Hugging Face, Ollama or an OCI registry have it"),
    "import": ("import_", "Make a version of what Hugging Face or Ollama have on this machine"),
    "serve": ("serve", "Let Hugging Face clients load from the store, and browsers show it"),
    "doctor": ("doctor", "Check the environment: packages, file system, locks"),
    "completion": ("completion", "Print the shell's completion script"),
    "help": ("help_", "Show the help of mstore or of a command"),
}
"""Every command: the module it is in, and its line in the help."""

_FUNCTIONS = {"list": "list_", "help": "help_", "import": "import_"}
"""Commands that are called otherwise in Python, where the name is taken."""

_BLAS = {"train"}
"""Commands that may use the threads of a BLAS; elsewhere those only spin.

Starting them with numpy takes 70 ms of CPU. Searching for factors takes 0.4 CPU seconds per million
values with one of OpenBLAS's threads, and 2 to 5 with two, on two cores with others at work.
"""

_HABITS = {"add": "commit", "ls": "list", "tag": "alias", "switch": "set-active", "stat": "status"}
"""What users of other tools type first."""


class _Commands(click.Group):
    """Loads a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in _BLAS:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy reads it when it is loaded
        module = importlib.import_module(f"modelstore.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, _FUNCTIONS.get(cmd_name, cmd_name.replace("-", "_")))
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = _HABITS.get(args[0]) or failures.nearest(args[0], COMMANDS)
            if near:
                raise click.UsageError(f"{error.message} Did you mean {near!r}?", ctx) from error
            raise


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="A REF is a version (v1.1), ACTIVE, latest, an alias or a digest prefix, with "
    "MODEL@ before it where it could be of several models. ACTIVE~1 is its parent, ACTIVE@{1} "
    "what ACTIVE was before.",
)
@click.version_option(None, "-V", "--version", package_name="mstore", prog_name="mstore")
@common.store_options
@click.pass_context
def cli(ctx: click.Context, /, **_: Any) -> None:
    """Git for model weights: every fine-tune is a version that costs what changed."""
    common.settings(ctx)


@cli.result_callback()
@click.pass_context
def _finish(ctx: click.Context, result: object) -> object:
    """Print what changes found in place of registries, whichever command made them."""
    chosen = common.settings(ctx)
    for notice in dict.fromkeys(n for store in chosen.opened for n in store.notices):
        if not chosen.json:
            output.warn(notice)
    return result


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line, or answer a shell that is completing, and exit with the code."""
    # A registry of 10,000 versions is half a million values and no garbage; looking for some in
    # them again and again takes a sixth of the time.
    gc.set_threshold(200_000, 20, 100)
    asked = os.environ.get(completion.VARIABLE)
    if asked:
        sys.exit(completion.answer(cli, asked))
    failures.run(cli, list(args) if args is not None else None)

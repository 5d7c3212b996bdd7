"""The options that every command shares: which store, which model, and whether to speak JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from modelstore.cli import complete
from modelstore.cli.settings import Settings, settings

Function = TypeVar("Function", bound=Callable[..., Any])


__all__ = [
    "Settings",
    "json_option",
    "key_file_option",
    "quiet_option",
    "settings",
    "silent_option",
    "store_options",
]


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> Any:
        if value is not None and value is not False and value != "":  # 0 seconds are said, too
            setattr(settings(ctx), name, value)
        return value

    return callback


_OPTIONS = (
    click.option(
        "-C",
        "--store",
        metavar="DIR",
        expose_value=False,
        callback=_set("store"),
        help="Find the store from DIR; default: MSTORE_STORE, else the current directory.",
    ),
    click.option(
        "-M",
        "--model",
        metavar="MODEL",
        expose_value=False,
        callback=_set("model"),
        shell_complete=complete.models,
        help="The model of a ref that names none; default: MSTORE_MODEL.",
    ),
    click.option(
        "--lock-timeout",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        expose_value=False,
        callback=_set("lock_timeout"),
        help="How long to wait for another process.  [default: 30]",
    ),
)


def store_options(function: Function) -> Function:
    """Add ``-C``, ``-M`` and ``--lock-timeout`` to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def json_option(function: Function) -> Function:
    """Add ``--json`` to a command that reports."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_set("json"),
        help="Print JSON (docs/json.md says what is in it).",
    )(function)


def key_file_option(function: Function) -> Function:
    """Add ``--key-file`` to a command that opens remotes."""
    return click.option(
        "--key-file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        expose_value=False,
        callback=_set("key_file"),
        help="The key of an encrypted remote; default: MSTORE_KEY_FILE, or MSTORE_PASSPHRASE.",
    )(function)


def quiet_option(function: Function) -> Function:
    """Add ``-q`` to a command that shows progress."""
    return click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_set("quiet"),
        help="Print only the result: the full ref, or the path.",
    )(function)


def silent_option(what: str) -> Callable[[Function], Function]:
    """Return what adds ``-q`` to a command that has no one result; ``what`` says what is left."""

    def add(function: Function) -> Function:
        return click.option(
            "-q", "--quiet", is_flag=True, expose_value=False, callback=_set("quiet"), help=what
        )(function)

    return add

"""``mstore serve``."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import click

from modelstore.cli import common, output
from modelstore.cli.memory import keep_freed
from modelstore.errors import StoreError
from modelstore.ops.resolve import resolve
from modelstore.server.settings import HOST, PORT, ServeSettings
from modelstore.store import Store

_VARIABLE = "MSTORE_TOKEN"
_MADE = "made"
"""What --token without a value stands for."""


@click.command()
@click.option("--host", default=HOST, show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="The port; 0 takes any that is free.",
)
@click.option(
    "--token",
    is_flag=False,
    flag_value=_MADE,
    default="",
    envvar=_VARIABLE,
    metavar="[TOKEN]",
    help="Let those who have it make changes, and read from other machines; without a value one "
    "is made.",
)
@click.option("--read-only", is_flag=True, help="Change nothing, token or not.")
@click.option(
    "--allow-pickle", is_flag=True, help="Hand out .bin, .pt and other files that may run code."
)
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A name that clients call it by, as behind a proxy.",
)
@common.store_options
@common.silent_option("Print the URL only.")
@click.pass_context
def serve(  # noqa: PLR0913  (one argument an option)
    ctx: click.Context,
    /,
    host: str,
    port: int,
    token: str,
    read_only: bool,
    allow_pickle: bool,
    names: tuple[str, ...],
) -> None:
    """Let Hugging Face clients load from the store, and browsers show it.

    A client is pointed at it by the variable HF_ENDPOINT; a line of versions is a repository, and a
    version a revision. Weights are decoded as they are sent. With --token, what clients upload is the
    next version. Only this machine is served unless --host says otherwise, which takes a token.
    Ctrl-C ends it.
    """
    chosen = common.settings(ctx)
    _require_server()
    from modelstore.server.app import create_app
    from modelstore.server.running import bind, run

    if token == _MADE:
        token = os.environ.get(_VARIABLE, "") or _MADE
    made = token == _MADE
    token = f"hf_{secrets.token_hex(20)}" if made else token
    settings = ServeSettings(host, port, token, read_only, allow_pickle, names)
    store = chosen.open()
    keep_freed()
    with bind(settings) as listening:
        app = create_app(store, settings, output.warn, None if chosen.quiet else output.say)
        started = _announce(store, settings, token if made else "", quiet=chosen.quiet)
        run(app, settings, listening, started)
    if not chosen.quiet:
        output.hint("stopped")


def _announce(
    store: Store, settings: ServeSettings, token: str, *, quiet: bool
) -> Callable[[str], None]:
    """Return what says how to load from the server; with the token where one was made."""

    def announce(url: str) -> None:
        if quiet:
            output.say(url)
            return
        here = store.root.absolute() == Path.cwd()
        root = store.root.absolute() if here else output.place(store.root)
        output.say(f"serving {root} at {url}; Ctrl-C ends it")
        output.say(f"  in a browser: {url}/{f'sign-in?token={token}' if token else ''}")
        output.say(f"  export HF_ENDPOINT={url}")
        if token:
            output.say(f"  export HF_TOKEN={token} MSTORE_TOKEN={token}")
        elif settings.may_write:
            output.say(f"  it takes changes from whoever has its token ({_VARIABLE}, HF_TOKEN)")
        output.say(f"  hf download {_example(store)}")

    return announce


def _example(store: Store) -> str:
    """Return a version of the store as `hf download` takes it."""
    for model in store.models():
        try:
            version = resolve(store, f"{model}@ACTIVE").entry.version
        except StoreError:
            continue
        return f"mstore/{model} --revision {version}"
    return "mstore/MODEL"


def _require_server() -> None:
    try:
        import modelstore.server.app  # noqa: F401  (with all that it needs)
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        if name == "modelstore":
            raise
        raise StoreError(f"{name} is not installed", "pip install 'mstore[serve]'") from error

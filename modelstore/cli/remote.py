"""``mstore remote``."""

from __future__ import annotations

from pathlib import Path

import click

from modelstore.cli import common, complete, output
from modelstore.ops import remotes
from modelstore.ops.remotes import Known


@click.group()
@common.store_options
def remote() -> None:
    """Give places elsewhere a name, to push to and to pull from.

    A place is a directory, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, the
    http://HOST:PORT of mstore serve, or https://... of a web server, to read from. Servers that
    speak like Amazon's: s3://BUCKET/PREFIX?endpoint=URL.

    Credentials are read from the environment and from the files of the providers' own tools
    (AWS_ACCESS_KEY_ID, ~/.aws/credentials, GOOGLE_APPLICATION_CREDENTIALS,
    AZURE_STORAGE_ACCOUNT_KEY, MSTORE_TOKEN for http), and never written down.
    """


@remote.command("add", short_help="Give a place elsewhere a name.")
@click.argument("name")
@click.argument("url")
@click.option("--encrypt", is_flag=True, help="Encrypt all that is put there; it must be empty.")
@common.key_file_option
@common.store_options
@common.silent_option("Print nothing.")
@common.json_option
@click.pass_context
def add(ctx: click.Context, name: str, url: str, encrypt: bool) -> None:
    """Give a place elsewhere a name, after trying whether it keeps registries safe."""
    chosen = common.settings(ctx)
    added, found = remotes.add(chosen.open(), name, url, encrypt=encrypt)
    if chosen.json:
        output.emit("remote", as_json(added))
    elif not chosen.quiet:
        output.say(f"{added.name}: {added.url}{', encrypted' if added.sealed else ''}")
        if found is None:
            output.hint("it can only be read from")


@remote.command("list")
@common.store_options
@common.json_option
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List the remotes."""
    chosen = common.settings(ctx)
    found = remotes.known(chosen.open())
    if chosen.json:
        output.emit("remotes", {"remotes": [as_json(one) for one in found]})
    elif found:
        output.table([(one.name, one.url, "encrypted" if one.sealed else "") for one in found])
    else:
        output.hint("no remotes; add one with: mstore remote add NAME URL")


@remote.command("rm")
@click.argument("name", shell_complete=complete.remotes)
@common.store_options
@common.silent_option("Print nothing.")
@common.json_option
@click.pass_context
def rm(ctx: click.Context, name: str) -> None:
    """Forget a remote; nothing changes there."""
    chosen = common.settings(ctx)
    gone = remotes.remove(chosen.open(), name)
    if chosen.json:
        output.emit("remote", as_json(gone))
    elif not chosen.quiet:
        output.say(f"{gone.name}: forgotten; {gone.url} stays as it is")


@remote.command("new-key")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def new_key(_: click.Context, file: Path) -> None:
    """Write a new key to FILE, for --key-file.

    Only its owner may read it. Keep a copy elsewhere: without it nothing that was encrypted with
    it can be read.
    """
    remotes.write_key_file(file)
    output.say(str(file))
    output.hint(f"use it with: --key-file {file}; keep a copy elsewhere")


def as_json(one: Known) -> dict[str, object]:
    """Return a remote as its JSON says it."""
    return {"name": one.name, "url": one.url, "sealed": one.sealed}

"""What commands about destinations share: opening one, with what the environment says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from modelstore.cli.settings import Settings
from modelstore.errors import NoStoreError
from modelstore.ops.backup_place import destination
from modelstore.ops.remotes import KEY_FILE
from modelstore.remotes.base import Remote
from modelstore.store import Store

Function = TypeVar("Function", bound=Callable[..., Any])


def key_option(function: Function) -> Function:
    """Add ``--key-file`` to a command."""
    return click.option(
        "--key-file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help="The key of an encrypted destination; default: MSTORE_KEY_FILE, or the passphrase "
        "in MSTORE_PASSPHRASE.",
    )(function)


@contextmanager
def opened(
    store: Store | None,
    text: str,
    key_file: str | None,
    *,
    create: bool = False,
    encrypt: bool = False,
) -> Iterator[Remote]:
    """Open a destination; see `modelstore.ops.backup_place.destination`."""
    environment = dict(os.environ)
    if key_file:
        environment[KEY_FILE] = key_file
    with destination(store, text, environment, create=create, encrypt=encrypt) as remote:
        yield remote


def store_here(chosen: Settings) -> Store | None:
    """Return the store whose remotes' names count; None where there is none."""
    try:
        return chosen.open()
    except NoStoreError:
        return None

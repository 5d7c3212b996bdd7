"""From an address to a remote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from modelstore.errors import RemoteError
from modelstore.remotes.address import parse_address
from modelstore.remotes.base import Remote
from modelstore.remotes.directory import DirectoryRemote
from modelstore.remotes.providers import cloud_remote
from modelstore.remotes.served import ServedRemote


def open_remote(text: str, environment: Mapping[str, str]) -> Remote:
    """Return the remote at the address ``text``; see `modelstore.remotes.address`.

    Args:
        text: the address.
        environment: variables that may hold credentials and settings, as in `os.environ`.

    Raises:
        UsageError: it is no address, or has credentials in it.
        RemoteError: it is a directory that is not there, its settings do not fit together, or the
            library for it is not installed.
    """
    address = parse_address(text)
    if address.scheme == "file":
        return DirectoryRemote(Path(address.path))
    try:
        if address.scheme in {"http", "https"}:
            return ServedRemote(address.shown, token=environment.get("MSTORE_TOKEN", ""))
        return cloud_remote(address, environment)
    except ImportError as error:
        raise RemoteError(
            f"'{address.shown}' needs a library that is not installed ({error.name})",
            "pip install 'mstore[remote]'",
        ) from error

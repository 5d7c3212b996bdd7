"""The remotes of a store: their names and addresses in `config.json`, and opening them.

Credentials are never written down: they come from the environment, as `Store.environment` has it,
and from the files that providers' own tools use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore import disk
from modelstore.errors import (
    BadNameError,
    ConflictError,
    NotFoundError,
    RemoteError,
    UsageError,
    WrongKeyError,
)
from modelstore.ops import tracking
from modelstore.ops.elsewhere import claim
from modelstore.remotes.address import parse_address
from modelstore.remotes.base import Remote
from modelstore.remotes.directory import create_directory
from modelstore.remotes.opening import open_remote
from modelstore.remotes.probe import Probe, require_registries
from modelstore.store import Store

if TYPE_CHECKING:
    from modelstore.remotes.keyfile import Secret

ORIGIN = "origin"
"""The remote that a clone came from, and that push and pull mean where none is named."""

PASSPHRASE = "MSTORE_PASSPHRASE"  # noqa: S105  (the name of a variable)
KEY_FILE = "MSTORE_KEY_FILE"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_SEALED_KEY = "sealed.json"


@dataclass(frozen=True, slots=True)
class Known:
    """A remote that a store knows by name.

    Attributes:
        url: its address; a directory's is absolute.
        sealed: whether what is there is encrypted.
    """

    name: str
    url: str
    sealed: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A remote that is open.

    Attributes:
        name: what the store calls it, "" for an address that was typed.
        said: how the user names it.
        remote: the remote.
    """

    name: str
    said: str
    remote: Remote


def known(store: Store) -> list[Known]:
    """Return the store's remotes, sorted by name; what is malformed is passed over."""
    found = store.config().get("remotes")
    rows = found.items() if isinstance(found, dict) else ()
    return [
        Known(name, row["url"], bool(row.get("sealed")))
        for name, row in sorted(rows)
        if _NAME.match(name) and isinstance(row, dict) and isinstance(row.get("url"), str)
    ]


def named(store: Store, name: str) -> Known | None:
    """Return the remote of that name, None where there is none."""
    return next((one for one in known(store) if one.name == name), None)


def add(
    store: Store, name: str, url: str, *, encrypt: bool = False, probing: bool = True
) -> tuple[Known, Probe | None]:
    """Give a remote a name, after trying whether registries are safe there.

    Args:
        encrypt: seal all that is put there with the passphrase or key file of the environment.
        probing: try it by writing there; a clone only reads.

    Returns:
        the remote, and what it was found to do; None for one to read from.

    Raises:
        BadNameError: it cannot have that name.
        ConflictError: another remote has it; or it is to be encrypted and holds something.
        RemoteError: it cannot be reached, or does not honour conditional writes.
        WrongKeyError: it is encrypted, with another key.
    """
    if not _NAME.match(name):
        raise BadNameError(
            f"{name!r} cannot be the name of a remote", "use letters, digits, '-' and '_': origin"
        )
    address = _absolute(url)
    there = named(store, name)
    if there is not None and there.url != address:
        raise ConflictError(
            f"the remote '{name}' is '{there.url}'", f"remove it first: mstore remote rm {name}"
        )
    remote = _opened(store, address, create=probing)
    try:
        sealed = _seal(store, remote, encrypt=encrypt)
        found = require_registries(remote) if remote.writable and probing else None
    finally:
        remote.close()
    _configure(store, {name: {"url": address, "sealed": sealed}})
    return Known(name, address, sealed), found


def remove(store: Store, name: str) -> Known:
    """Forget a remote; nothing changes there.

    Raises:
        NotFoundError: there is none of that name.
    """
    found = named(store, name)
    if found is None:
        raise _unknown(store, name)
    _configure(store, {name: None})
    tracking.forget(store, name)
    return found


@contextmanager
def opened(store: Store, text: str = "") -> Iterator[Place]:
    """Open the remote that ``text`` names, or is the address of, for the length of the block.

    Args:
        text: "" for `ORIGIN`, or the only one there is.

    Raises:
        NotFoundError: the store knows no such remote.
        WrongKeyError: it is encrypted, and the environment has no key, or another.
        RemoteError: it cannot be reached.
    """
    found = _meant(store, text)
    url = found.url if found is not None else text
    remote = _opened(store, url)
    try:
        if found.sealed if found is not None else _is_sealed(remote):
            remote = _unsealed(store, remote)
        yield Place(found.name if found is not None else "", text or _said(found), remote)
    finally:
        remote.close()


def _said(found: Known | None) -> str:
    return "" if found is None else found.name


def _meant(store: Store, text: str) -> Known | None:
    """Return the remote that is meant; None for an address."""
    found = named(store, text or ORIGIN)
    if found is not None:
        return found
    every = known(store)
    if not text and len(every) == 1:
        return every[0]
    if not text or _NAME.match(text):
        raise _unknown(store, text or ORIGIN)
    return None


def _unknown(store: Store, name: str) -> NotFoundError:
    names = ", ".join(one.name for one in known(store))
    if names:
        return NotFoundError(
            f"there is no remote '{name}' (there is: {names})", "run: mstore remote list"
        )
    return NotFoundError("this store has no remotes", f"add one: mstore remote add {name} URL")


def _absolute(url: str) -> str:
    address = parse_address(url)
    return str(Path(address.path).absolute()) if address.scheme == "file" else url


def _opened(store: Store, url: str, *, create: bool = False) -> Remote:
    address = parse_address(url)
    if create and address.scheme == "file" and Path(address.path).parent.is_dir():
        return create_directory(Path(address.path))  # its disk is there, so none is missing
    return open_remote(url, store.environment)


def _configure(store: Store, rows: Mapping[str, Any]) -> None:
    found = store.config().get("remotes")
    merged = {**(found if isinstance(found, dict) else {}), **rows}
    store.configure({"remotes": {name: row for name, row in merged.items() if row} or ""})


# --- encryption


def secret_of(store: Store) -> Secret | None:
    """Return the passphrase or key file that the environment gives, None for neither.

    Raises:
        UsageError: the key file is not one.
        StoreError: it cannot be read.
    """
    path, text = store.environment.get(KEY_FILE, ""), store.environment.get(PASSPHRASE, "")
    if not path and not text:
        return None
    try:
        from modelstore.remotes.keyfile import Passphrase, parse_key_file
    except ImportError as error:
        raise RemoteError(
            "cryptography is not installed", "pip install 'mstore[remote]'"
        ) from error
    if not path:
        return Passphrase(text)
    with disk.explained(Path(path), "read"):
        return parse_key_file(Path(path).read_bytes())


def write_key_file(path: Path) -> None:
    """Write a new random key to a file that only its owner may read.

    Raises:
        ConflictError: there is something at ``path``.
        RemoteError: cryptography is not installed.
        StoreError: it cannot be written.
    """
    try:
        from modelstore.remotes.keyfile import new_key_file
    except ImportError as error:
        raise RemoteError(
            "cryptography is not installed", "pip install 'mstore[remote]'"
        ) from error
    if os.path.lexists(path):
        raise ConflictError(f"'{path}' exists", "give a file that does not exist")
    with disk.NewFile(path, mode=0o600) as file:
        file.write(new_key_file())
        file.close(sync=True)
    disk.sync_dir(path.parent)


def _is_sealed(remote: Remote) -> bool:
    return remote.head(_SEALED_KEY) is not None


def _seal(store: Store, remote: Remote, *, encrypt: bool) -> bool:
    """Check that the environment's key opens a sealed remote, or seal an empty one if asked to."""
    if _is_sealed(remote):
        _unsealed(store, remote)
        return True
    if not encrypt:
        return False
    secret = secret_of(store)
    if secret is None:
        raise UsageError(
            "there is no key to encrypt with", f"set {PASSPHRASE}, or give --key-file FILE"
        )
    from modelstore.remotes.sealed import create_sealed

    claim(create_sealed(remote, secret))
    return True


def _unsealed(store: Store, remote: Remote) -> Remote:
    secret = secret_of(store)
    if secret is None:
        raise WrongKeyError(
            f"'{remote.shown}' is encrypted", f"set {PASSPHRASE}, or give --key-file FILE"
        )
    from modelstore.remotes.sealed import open_sealed

    return open_sealed(remote, secret)

"""Opening the destination of backups: a remote that the store knows by name, or an address.

Restoring, listing and checking need no store, so neither does this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modelstore import disk
from modelstore.errors import ConflictError, WrongKeyError
from modelstore.ops.remotes import KEY_FILE, PASSPHRASE, named
from modelstore.remotes.address import parse_address
from modelstore.remotes.base import Remote
from modelstore.remotes.directory import create_directory
from modelstore.remotes.opening import open_remote
from modelstore.store import Store

if TYPE_CHECKING:
    from modelstore.remotes.keyfile import Secret

_SEALED_KEY = "sealed.json"


@contextmanager
def destination(
    store: Store | None,
    text: str,
    environment: Mapping[str, str],
    *,
    create: bool = False,
    encrypt: bool = False,
) -> Iterator[Remote]:
    """Open the destination that ``text`` says for the length of the block.

    Args:
        store: whose remotes' names count; None for addresses only.
        text: a name, or an address; see `modelstore.remotes.address`.
        environment: variables that may hold credentials, and the key of an encrypted destination.
        create: make a directory that does not exist, if the one above it does.
        encrypt: seal a destination that is empty.

    Raises:
        WrongKeyError: it is encrypted, and there is no key, or another.
        ConflictError: it is to be encrypted, and holds something already.
        RemoteError: it cannot be reached.
    """
    if create and encrypt:
        _secret(text, environment)  # a key that cannot be one leaves no directory behind
    remote = _open(store, text, environment, create=create)
    try:
        yield _unsealed(remote, environment, encrypt=encrypt)
    finally:
        remote.close()


def _open(
    store: Store | None, text: str, environment: Mapping[str, str], *, create: bool
) -> Remote:
    known = named(store, text) if store is not None else None
    url = text if known is None else known.url
    address = parse_address(url)
    if create and address.scheme == "file" and Path(address.path).absolute().parent.is_dir():
        return create_directory(Path(address.path))
    return open_remote(url, environment)


def _unsealed(remote: Remote, environment: Mapping[str, str], *, encrypt: bool) -> Remote:
    if remote.head(_SEALED_KEY) is None:
        if not encrypt:
            return remote
        from modelstore.remotes.sealed import create_sealed

        if next(iter(remote.list()), None) is not None:
            raise ConflictError(
                f"'{remote.shown}' holds something that is not encrypted",
                "encrypt an empty place, and back up there",
            )
        return create_sealed(remote, _secret(remote.shown, environment))
    from modelstore.remotes.sealed import open_sealed

    return open_sealed(remote, _secret(remote.shown, environment))


def _secret(shown: str, environment: Mapping[str, str]) -> Secret:
    """Return the passphrase or key file that the environment names for a destination.

    Raises:
        WrongKeyError: it names none.
        UsageError: the key file is not one.
    """
    from modelstore.remotes.keyfile import Passphrase, parse_key_file

    path, text = environment.get(KEY_FILE, ""), environment.get(PASSPHRASE, "")
    if path:
        with disk.explained(Path(path), "read"):
            return parse_key_file(Path(path).read_bytes())
    if not text:
        raise WrongKeyError(
            f"there is no key for '{shown}', which is encrypted",
            f"set {PASSPHRASE}, or give --key-file FILE",
        )
    return Passphrase(text)

"""The key of a sealed remote: a random master key, wrapped with what the user knows or has.

It lies at the remote as `sealed.json`, the only value there that is not sealed:

    {"schema": "mstore/sealed/1", "kdf": "scrypt", "n", "r", "p", "salt", "check", "wrapped"}
    {"schema": "mstore/sealed/1", "kdf": "file", "salt", "check", "wrapped"}

The wrapping key is scrypt (RFC 7914) of the passphrase in Unicode's form NFC, or BLAKE3 of the key in
the user's file and the salt. `check` is derived from it and tells a wrong passphrase from damage.
`wrapped` is a nonce of 12 bytes and the master key by AES-256-GCM. All bytes are written in hex.
So the passphrase can be changed without sealing anything anew.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from modelstore.canonical import canonical, parse_mapping
from modelstore.errors import IntegrityError, NewerFormatError, UsageError, WrongKeyError
from modelstore.hashing import derive_key
from modelstore.remotes.sealing import MASTER_SIZE

SCHEMA = "mstore/sealed/1"

COST = 1 << 17
"""Default of scrypt's n, with r = 8 and p = 1: 128 MiB and some 0.3 s, as OWASP advises."""

MIN_COST = 1 << 15
MAX_COST = 1 << 21
"""Bounds of n: below them a passphrase is guessed too cheaply; above, a hostile remote costs 2 GiB."""

_BLOCK, _LANES = 8, 1
_SALT_SIZE = 32
_NONCE_SIZE = 12
_CHECK_SIZE = 16
_PURPOSE = "mstore 2026-11 sealed remotes: "
_KEY_FILE = re.compile(rb"mstore-key-1 ([0-9a-f]{64})\s*\Z")
_HEX = re.compile(r"(?:[0-9a-f]{2})+\Z")


@dataclass(frozen=True, slots=True, repr=False)
class Passphrase:
    """What the user knows.

    Raises:
        UsageError: it is empty.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise UsageError("the passphrase is empty", "choose one of several words")


@dataclass(frozen=True, slots=True, repr=False)
class KeyFile:
    """What the user has: 32 random bytes."""

    key: bytes


Secret = Passphrase | KeyFile


def new_key_file() -> bytes:
    """Return the content of a new key file: one line of text."""
    return b"mstore-key-1 " + os.urandom(32).hex().encode("ascii") + b"\n"


def parse_key_file(data: bytes) -> KeyFile:
    """Return the key in a key file's content.

    Raises:
        UsageError: it is not the content of a key file.
    """
    match = _KEY_FILE.match(data)
    if match is None:
        raise UsageError(
            "the key file is not one that mstore wrote", "make one: mstore remote new-key FILE"
        )
    return KeyFile(bytes.fromhex(match.group(1).decode("ascii")))


def wrap(master: bytes, secret: Secret, cost: int = COST) -> bytes:
    """Return the content of `sealed.json` for ``master``, wrapped with ``secret``.

    Raises:
        UsageError: ``cost`` is out of bounds or no power of two.
    """
    head: dict[str, Any] = {"schema": SCHEMA, "salt": os.urandom(_SALT_SIZE).hex()}
    if isinstance(secret, Passphrase):
        if not MIN_COST <= cost <= MAX_COST or cost & (cost - 1):
            raise UsageError(f"scrypt's n must be a power of two from {MIN_COST} to {MAX_COST}")
        head |= {"kdf": "scrypt", "n": cost, "r": _BLOCK, "p": _LANES}
    else:
        head |= {"kdf": "file"}
    key = _wrapping_key(head, secret)
    nonce = os.urandom(_NONCE_SIZE)
    wrapped = nonce + AESGCM(key).encrypt(nonce, master, None)
    return canonical(head | {"check": _check(key).hex(), "wrapped": wrapped.hex()})


def unwrap(data: bytes, secret: Secret) -> bytes:
    """Return the master key from the content of `sealed.json`.

    Raises:
        WrongKeyError: ``secret`` is not the one it was wrapped with.
        IntegrityError: it is damaged, or asks for what no mstore would have written.
        NewerFormatError: it is of another kind.
    """
    fields = parse_mapping(data, "the key of the sealed remote")
    if fields.get("schema") != SCHEMA:
        raise NewerFormatError(
            "the remote was sealed by another mstore", "pip install --upgrade mstore"
        )
    check, wrapped = _hex(fields, "check"), _hex(fields, "wrapped")
    key = _wrapping_key(fields, secret)
    if not compare_digest(_check(key), check):
        raise WrongKeyError(
            "this is not the passphrase or key file that the remote was sealed with",
            "try again; without it what is there cannot be read",
        )
    try:
        master = AESGCM(key).decrypt(wrapped[:_NONCE_SIZE], wrapped[_NONCE_SIZE:], None)
    except (InvalidTag, ValueError) as error:
        raise _damaged() from error
    if len(master) != MASTER_SIZE:
        raise _damaged()
    return master


def _wrapping_key(fields: Mapping[str, Any], secret: Secret) -> bytes:
    kind = "scrypt" if isinstance(secret, Passphrase) else "file"
    if fields.get("kdf") != kind:
        other = {"scrypt": "a passphrase", "file": "a key file"}.get(str(fields.get("kdf")), "")
        if not other:
            raise _damaged()
        raise WrongKeyError(f"the remote was sealed with {other}", f"give {other}")
    salt = _hex(fields, "salt")
    if isinstance(secret, KeyFile):
        return derive_key(f"{_PURPOSE}key file", secret.key + salt)
    cost = fields.get("n")
    if (fields.get("r"), fields.get("p")) != (_BLOCK, _LANES) or not isinstance(cost, int):
        raise _damaged()
    if not MIN_COST <= cost <= MAX_COST or cost & (cost - 1):
        raise _damaged()
    text = unicodedata.normalize("NFC", secret.text).encode("utf-8", "surrogateescape")
    return Scrypt(salt=salt, length=32, n=cost, r=_BLOCK, p=_LANES).derive(text)


def _check(key: bytes) -> bytes:
    return derive_key(f"{_PURPOSE}check", key, _CHECK_SIZE)


def _hex(fields: Mapping[str, Any], name: str) -> bytes:
    text = fields.get(name)
    if not isinstance(text, str) or not _HEX.match(text):
        raise _damaged()
    return bytes.fromhex(text)


def _damaged() -> IntegrityError:
    return IntegrityError(
        "the key of the sealed remote is damaged", "put back `sealed.json` from a copy of it"
    )

"""How values and names are sealed: authenticated encryption, chunk by chunk.

A value is sealed by STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption
and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015) over AES-256-GCM:

    magic, 8 bytes · id of the key, 8 bytes · salt, 32 bytes
    chunk 0: the value's size, 8 bytes, and a tag of 16 bytes
    chunk 1 …: up to 65,536 bytes of the padded value each, and a tag of 16 bytes

Each value has a key of its own: BLAKE3 derives it from the key for values, the 48 bytes in front,
and the value's name. So a value that is moved to another name cannot be opened. The nonce is the
number of the chunk, 11 bytes big-endian, and one byte that is 1 for the last chunk. So chunks can be
neither cut off, nor exchanged, nor repeated; and every chunk can be opened by itself.

The value is padded with zeros to 256 bytes or to the next size that PADMÉ knows (Nikitin et al.:
"Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS 2019): at most
12 % more, 1.5 % or less over 1 MB. Of a value's size only that is visible.

A name is sealed segment by segment by AES-SIV (RFC 5297) with a key of 512 bits, padded with NUL to a
multiple of 16 bytes, the names before it being associated data; it is written in base32. The same
name is always sealed alike, so a listing of a prefix is a listing of the sealed prefix; and a segment
that is moved elsewhere cannot be opened.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

from modelstore.errors import BadNameError, IntegrityError, NewerFormatError, WrongKeyError
from modelstore.hashing import derive_key
from modelstore.remotes.base import MAX_SEGMENT, parse_key
from modelstore.remotes.content import PIECE, Content

CHUNK = 65_536
PREFIX_SIZE = 72
"""Bytes before chunk 1: magic, id, salt and chunk 0."""

MASTER_SIZE = 32

_MAGIC = b"MSSEAL\x00\x01"
_ID_SIZE = 8
_SALT_SIZE = 32
_HEADER_SIZE = len(_MAGIC) + _ID_SIZE + _SALT_SIZE
_TAG = 16
_SMALLEST = 256
_NAME_UNIT = 16
_MAX_NAME = MAX_SEGMENT * 5 // 8 // _NAME_UNIT * _NAME_UNIT - _TAG
"""Characters of a segment whose sealed form is still one."""

_PURPOSE = "mstore 2026-11 sealed remotes: "


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What follows from a master key.

    Attributes:
        id: 8 bytes that tell whether a value was sealed with this key, and nothing else.
        names: 64 bytes for AES-SIV.
        values: 32 bytes that the keys of values are derived from.
    """

    id: bytes
    names: bytes
    values: bytes


def keys_of(master: bytes) -> Keys:
    """Return the keys that follow from ``master``, `MASTER_SIZE` random bytes."""
    return Keys(
        id=derive_key(f"{_PURPOSE}id", master, _ID_SIZE),
        names=derive_key(f"{_PURPOSE}names", master, 64),
        values=derive_key(f"{_PURPOSE}values", master),
    )


# --- names


def seal_name(keys: Keys, name: str) -> str:
    """Return the key under which the value ``name`` lies at the sealed remote.

    Raises:
        BadNameError: ``name`` is no key, or one whose sealed form is too long to be one.
    """
    cipher = AESSIV(keys.names)
    before = ""
    sealed = []
    for segment in parse_key(name).split("/"):
        if len(segment) > _MAX_NAME:
            raise BadNameError(f"{segment[:100]!r} is too long for a sealed remote")
        padded = segment.encode("ascii").ljust(-(-len(segment) // _NAME_UNIT) * _NAME_UNIT, b"\0")
        sealed.append(_base32(cipher.encrypt(padded, [before.encode("ascii")])))
        before = f"{before}/{segment}"
    return parse_key("/".join(sealed))


def open_name(keys: Keys, sealed: str) -> str:
    """Return the name that was sealed as ``sealed``.

    Raises:
        IntegrityError: this key did not seal that name, or not at that place.
    """
    cipher = AESSIV(keys.names)
    name = ""
    try:
        for segment in sealed.split("/"):
            padded = cipher.decrypt(_from_base32(segment), [name.encode("ascii")])
            name = f"{name}/{padded.rstrip(bytes(1)).decode('ascii')}"
        return parse_key(name[1:])
    except (InvalidTag, ValueError) as error:
        raise IntegrityError(f"the name {sealed[:100]!r} was not sealed with this key") from error


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def _from_base32(text: str) -> bytes:
    data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    if _base32(data) != text:
        raise binascii.Error("not as it would be written")
    return data


# --- sizes


def padded_size(size: int) -> int:
    """Return to how many bytes a value of ``size`` bytes is padded."""
    if size <= _SMALLEST:
        return _SMALLEST
    exponent = size.bit_length() - 1
    unit = 1 << (exponent - exponent.bit_length())
    return -(-size // unit) * unit


def sealed_size(size: int) -> int:
    """Return how many bytes a value of ``size`` bytes takes when it is sealed."""
    padded = padded_size(size)
    return PREFIX_SIZE + padded + _TAG * _chunks(padded)


def _chunks(padded: int) -> int:
    return -(-padded // CHUNK)


# --- values


def seal(keys: Keys, name: str, content: Content) -> Iterator[bytes]:
    """Yield ``content`` sealed as the value ``name``; never twice the same bytes."""
    header = _MAGIC + keys.id + os.urandom(_SALT_SIZE)
    cipher = _cipher(keys, header, name)
    yield header + cipher.encrypt(_nonce(0, last=False), content.size.to_bytes(8, "little"), None)
    count = _chunks(padded_size(content.size))
    for number, chunk in enumerate(_chunked(_padded(content)), start=1):
        yield cipher.encrypt(_nonce(number, last=number == count), chunk, None)


class SealedValue:
    """A sealed value whose first `PREFIX_SIZE` bytes are known.

    Attributes:
        size: bytes of the value itself.

    Args:
        keys: of the remote.
        name: of the value.
        prefix: its first `PREFIX_SIZE` bytes.

    Raises:
        IntegrityError: it is not sealed, or damaged, or was put under another name.
        WrongKeyError: it was sealed with another key.
        NewerFormatError: it was sealed in another way.
    """

    def __init__(self, keys: Keys, name: str, prefix: bytes) -> None:
        self._name = name
        header = prefix[:_HEADER_SIZE]
        if len(prefix) != PREFIX_SIZE or header[:7] != _MAGIC[:7]:
            raise self._damaged()
        if header[7] != _MAGIC[7]:
            raise NewerFormatError(
                f"'{name}' was sealed by another mstore", "pip install --upgrade mstore"
            )
        if header[len(_MAGIC) :][:_ID_SIZE] != keys.id:
            raise WrongKeyError(f"'{name}' was sealed with another key")
        self._cipher = _cipher(keys, header, name)
        self.size = int.from_bytes(self._open(prefix[_HEADER_SIZE:], 0, last=False), "little")
        self._padded = padded_size(self.size)

    def stream(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the value from ``pieces``, all that follows the prefix; whole or an error."""
        left = self.size
        last = _chunks(self._padded)
        number = 0
        for number, chunk in enumerate(_chunked(pieces, CHUNK + _TAG), start=1):
            if number > last:
                raise self._damaged()
            data = self._open(chunk, number, last=number == last)
            if left:
                yield data[:left]
            left -= min(left, len(data))
        if number != last:
            raise self._damaged()

    def where(self, start: int, stop: int) -> tuple[int, int]:
        """Return the sealed bytes that hold the bytes ``[start, stop)`` of the value."""
        first, last = start // CHUNK, (stop - 1) // CHUNK
        end = min((last + 1) * CHUNK, self._padded) + (last + 1) * _TAG
        return PREFIX_SIZE + first * (CHUNK + _TAG), PREFIX_SIZE + end

    def part(self, sealed: bytes, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)`` of the value from what lies at `where`."""
        first = start // CHUNK
        last = _chunks(self._padded)
        data = b"".join(
            self._open(chunk, number, last=number == last)
            for number, chunk in enumerate(_chunked(iter((sealed,)), CHUNK + _TAG), start=first + 1)
        )
        return data[start - first * CHUNK : stop - first * CHUNK]

    def _open(self, chunk: bytes, number: int, *, last: bool) -> bytes:
        try:
            return self._cipher.decrypt(_nonce(number, last=last), chunk, None)
        except (InvalidTag, ValueError) as error:
            raise self._damaged() from error

    def _damaged(self) -> IntegrityError:
        return IntegrityError(f"'{self._name}' at the sealed remote is not what was put there")


def _cipher(keys: Keys, header: bytes, name: str) -> AESGCM:
    return AESGCM(derive_key(f"{_PURPOSE}value", keys.values + header + name.encode("ascii")))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _padded(content: Content) -> Iterator[bytes]:
    yield from content.pieces()
    left = padded_size(content.size) - content.size
    while left:
        yield bytes(min(left, PIECE))
        left -= min(left, PIECE)


def _chunked(pieces: Iterator[bytes], size: int = CHUNK) -> Iterator[bytes]:
    """Yield the bytes of ``pieces`` in chunks of ``size``, of which only the last may be shorter."""
    rest = b""
    for piece in pieces:
        data = rest + piece if rest else piece
        whole = len(data) - len(data) % size
        for start in range(0, whole, size):
            yield data[start : start + size]
        rest = data[whole:]
    if rest:
        yield rest

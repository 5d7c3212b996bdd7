"""The directory of a zip file, read strictly: where each stored entry's bytes lie.

Only what `torch.save` writes is accepted: entries stored without compression or encryption, under
unique names, which the central directory and the local headers agree on, and which do not overlap
(PKWARE, "APPNOTE.TXT - .ZIP File Format Specification").
The disagreements are how pickles have been hidden from scanners (CVE-2025-1944, CVE-2025-1945).

torch aligns an entry with padding in the extra field of its local header alone, so local headers
must be read: the central directory does not tell where the bytes begin.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modelstore.formats.base import MalformedError, Source
from modelstore.formats.rules import quoted

LOCAL_MAGIC = b"PK\x03\x04"

MAX_ENTRIES = 100_000
MAX_DIRECTORY = 64 << 20
"""Bytes of the central directory."""

_END = struct.Struct("<4s4H2IH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")

_SIZES_FOLLOW = 0x0008
_UTF8 = 0x0800
_KNOWN_FLAGS = _SIZES_FOLLOW | _UTF8
_IN_ZIP64 = 0xFFFFFFFF
_ZIP64_EXTRA = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored entry; its bytes are ``[start, stop)`` of the file."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Listed:
    """An entry as the central directory lists it; ``offset`` is that of its local header."""

    raw_name: bytes
    flags: int
    size: int
    crc: int
    offset: int


def first_name(source: Source) -> str:
    """Return the name in the local header that the file begins with, "" if it has none."""
    if source.size < _LOCAL.size:
        return ""
    header = _LOCAL.unpack(source.read(0, _LOCAL.size))
    if header[0] != LOCAL_MAGIC or header[9] > source.size - _LOCAL.size:
        return ""
    return source.read(_LOCAL.size, _LOCAL.size + header[9]).decode("latin-1")


def read_entries(source: Source) -> dict[str, Entry]:
    """Return the entries by name, in the order in which they lie in the file.

    Raises:
        MalformedError: the file is no zip file, or not one that torch would have written.
    """
    start, size, count = _find_directory(source)
    listed = sorted(_listed(source.read(start, start + size), count), key=lambda one: one.offset)
    entries: dict[str, Entry] = {}
    ends = [min(one.offset, start) for one in listed[1:]] + [start]
    for one, end in zip(listed, ends, strict=False):
        entry = _entry(source, one, end)
        if entry.name in entries:
            raise MalformedError(f"it has the entry {quoted(entry.name)} twice")
        entries[entry.name] = entry
    return entries


def _find_directory(source: Source) -> tuple[int, int, int]:
    """Return where the central directory begins, its size and how many entries it lists."""
    at = source.size - _END.size
    if at < 0:
        raise MalformedError("it is too short for a zip directory")
    magic, disk, first_disk, here, count, size, start, comment = _END.unpack(
        source.read(at, source.size)
    )
    if magic != b"PK\x05\x06" or comment or disk or first_disk or here != count:
        raise MalformedError("it has no zip directory at its end")
    end64 = _read_end64(source, at)
    if end64 is not None:
        at, (count, size, start) = end64[0], _agreed((count, size, start), end64[1])
    if count > MAX_ENTRIES or size > MAX_DIRECTORY:
        raise MalformedError(f"it claims {count} entries in a directory of {size} bytes")
    if start + size > at:
        raise MalformedError(f"it claims a directory at byte {start} that would end behind itself")
    return start, size, count


def _read_end64(source: Source, end: int) -> tuple[int, tuple[int, int, int]] | None:
    """Return where the zip64 end record lies, and its count, size and start; None without one."""
    at = end - _END64_LOCATOR.size
    if at < 0:
        return None
    magic, disk, record, _disks = _END64_LOCATOR.unpack(source.read(at, end))
    if magic != b"PK\x06\x07":
        return None
    if disk or record > at - _END64.size:
        raise MalformedError(f"it claims a zip64 record at byte {record}")
    fields = _END64.unpack(source.read(record, record + _END64.size))
    if fields[0] != b"PK\x06\x06" or fields[6] != fields[7]:
        raise MalformedError(f"it claims a zip64 record at byte {record}")
    return record, (fields[7], fields[8], fields[9])


def _agreed(narrow: tuple[int, ...], wide: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return ``wide``, which ``narrow`` must repeat where the values fit."""
    for small, large, most in zip(narrow, wide, (0xFFFF, _IN_ZIP64, _IN_ZIP64), strict=True):
        if small not in (large, most):
            raise MalformedError(f"its two zip directories claim {small} and {large}")
    return wide


def _listed(directory: bytes, count: int) -> Iterator[_Listed]:
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(directory):
            raise MalformedError(f"its directory lists fewer than the {count} entries it claims")
        fields = _CENTRAL.unpack_from(directory, at)
        name_size, extra_size, comment_size = fields[10:13]
        at += _CENTRAL.size
        name = directory[at : at + name_size]
        extra = directory[at + name_size : at + name_size + extra_size]
        at += name_size + extra_size + comment_size
        yield _checked(fields, name, extra)
    if at != len(directory):
        raise MalformedError(f"its directory of {len(directory)} bytes lists {at} bytes")


def _checked(fields: tuple[Any, ...], name: bytes, extra: bytes) -> _Listed:
    flags, method, crc = fields[3], fields[4], fields[7]
    packed, size, offset = _widened(fields[8], fields[9], fields[16], extra)
    shown = quoted(name.decode("latin-1"))
    if fields[0] != b"PK\x01\x02" or fields[13]:
        raise MalformedError(f"the entry of {shown} in its directory is damaged")
    if method != 0 or packed != size:
        raise MalformedError(f"its entry {shown} is compressed")
    if flags & ~_KNOWN_FLAGS:
        raise MalformedError(f"its entry {shown} is encrypted, or has unknown flags")
    return _Listed(name, flags, size, crc, offset)


def _widened(packed: int, size: int, offset: int, extra: bytes) -> tuple[int, int, int]:
    """Return the three with those that did not fit taken from the zip64 field, in its order."""
    wide = iter(_zip64_values(extra))
    try:
        if size == _IN_ZIP64:
            size = next(wide)
        if packed == _IN_ZIP64:
            packed = next(wide)
        if offset == _IN_ZIP64:
            offset = next(wide)
    except StopIteration:
        raise MalformedError("an entry of its directory lacks a zip64 field") from None
    return packed, size, offset


def _zip64_values(extra: bytes) -> list[int]:
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + size]
        if kind == _ZIP64_EXTRA:
            whole = len(field) // 8 * 8
            return [int(value) for (value,) in struct.iter_unpack("<Q", field[:whole])]
        at += 4 + size
    return []


def _entry(source: Source, listed: _Listed, end: int) -> Entry:
    """Return the entry, whose local header must say what its directory says, before ``end``."""
    name_start = listed.offset + _LOCAL.size
    name_stop = name_start + len(listed.raw_name)
    shown = quoted(listed.raw_name.decode("latin-1"))
    if name_stop > end:
        raise MalformedError(f"its entry {shown} overlaps what follows")
    fields = _LOCAL.unpack(source.read(listed.offset, name_start))
    if not _agrees(fields, listed) or source.read(name_start, name_stop) != listed.raw_name:
        raise MalformedError(f"the two headers of its entry {shown} differ")
    extra_size = fields[10]
    start = name_stop + extra_size
    stop = start + listed.size
    if stop > end:
        raise MalformedError(f"its entry {shown} of {listed.size} bytes overlaps what follows")
    return Entry(_decoded(listed.raw_name), start, stop)


def _agrees(fields: tuple[Any, ...], listed: _Listed) -> bool:
    """Tell whether a local header says the same; sizes and checksum may be left for later."""
    magic, _, flags, method, _, _, crc, packed, size, name_size, _ = fields
    if (magic, flags, method, name_size) != (LOCAL_MAGIC, listed.flags, 0, len(listed.raw_name)):
        return False
    if flags & _SIZES_FOLLOW and (crc, packed, size) == (0, 0, 0):
        return True
    narrow = min(listed.size, _IN_ZIP64)
    later = bool(flags & _SIZES_FOLLOW) and crc == 0
    return (crc == listed.crc or later) and packed == size == narrow


def _decoded(raw_name: bytes) -> str:
    try:
        return raw_name.decode()
    except UnicodeDecodeError as error:
        shown = quoted(raw_name.decode("latin-1"))
        raise MalformedError(f"the name of its entry {shown} is not UTF-8 text") from error

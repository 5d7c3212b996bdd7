"""Zip directories: that they agree with zipfile, and that lies are refused."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import given

from modelstore.formats.base import MalformedError
from modelstore.formats.split import split
from modelstore.formats.torch_zip import TorchZip
from modelstore.formats.zip_directory import read_entries
from tests import strategies
from tests.builders import (
    MemorySource,
    pickle_bytes,
    torch_bytes,
    torch_with_pickle,
    values,
    zip_bytes,
)

GOOD = torch_bytes({"a": values("F32", 6)})
CENTRAL = GOOD.index(b"PK\1\2")
STORAGE = GOOD.rindex(b"PK\3\4", 0, GOOD.index(b"archive/data/0"))


def patched(at: int, form: str, value: int) -> bytes:
    """Return a good file with one number overwritten."""
    data = bytearray(GOOD)
    struct.pack_into(form, data, at, value)
    return bytes(data)


def two_outside() -> bytes:
    """Return a good file whose last two entries claim to lie behind its end, as fuzzing found."""
    data, last = bytearray(GOOD), GOOD.rindex(b"PK\1\2")
    for number, at in enumerate((last, GOOD.rindex(b"PK\1\2", 0, last))):
        struct.pack_into("<I", data, at + 42, (2 - number) << 24)
    return bytes(data)


END = len(GOOD) - 22
ZIP_LIES = {
    "central: deflated": patched(CENTRAL + 10, "<H", 8),
    "local: deflated": patched(STORAGE + 8, "<H", 8),
    "central: encrypted": patched(CENTRAL + 8, "<H", 0x0809),
    "local: encrypted": patched(STORAGE + 6, "<H", 0x0809),
    "central: another size": patched(CENTRAL + 24, "<I", 1),
    "central: a size of 4 GiB": patched(CENTRAL + 24, "<I", 0xFFFFFFFE),
    "central: a zip64 size that is missing": patched(CENTRAL + 24, "<I", 0xFFFFFFFF),
    "central: an offset outside": patched(CENTRAL + 42, "<I", 0x7FFFFFFF),
    "central: an offset inside": patched(CENTRAL + 42, "<I", 1),
    "central: two offsets outside": two_outside(),
    "central: another disk": patched(CENTRAL + 34, "<H", 1),
    "local: another name": patched(STORAGE + 31, "<B", 0x41),
    "local: a size": patched(STORAGE + 18, "<I", 5),
    "local: a checksum": patched(STORAGE + 14, "<I", 5),
    "local: much padding": patched(STORAGE + 28, "<H", 0xFFFF),
    "end: more entries": patched(END + 10, "<H", 9),
    "end: another disk": patched(END + 4, "<H", 1),
    "end: a comment": patched(END + 20, "<H", 1),
    "end: another start": patched(END + 16, "<I", 0),
    "end64: a huge count": patched(END - 20 - 56 + 32, "<Q", 2**63),
    "end64: a huge directory": patched(END - 20 - 56 + 40, "<Q", 2**63),
    "locator: a record outside": patched(END - 20 + 8, "<Q", 2**63),
    "appended bytes": GOOD + b"x",
    "inserted bytes": b"PK\3\4" + GOOD,
    "a name twice": zip_bytes([("a/data.pkl", pickle_bytes(1)), ("a/data.pkl", pickle_bytes(2))]),
    "two directories": zip_bytes([("a/data.pkl", pickle_bytes(1)), ("b/data.pkl", b"")]),
    "an entry outside": zip_bytes([("a/data.pkl", pickle_bytes(1)), ("a/../b", b"")]),
    "no pickle": zip_bytes([("a/version", b"3\n")]),
    "no pickle in it": zip_bytes([("a/data.pkl", b"")]),
    "an unknown byte order": torch_with_pickle(pickle_bytes({}), [], order=b"middle"),
}


@pytest.mark.parametrize("content", ZIP_LIES.values(), ids=ZIP_LIES.keys())
def test_zip_files_that_lie_are_refused(content: bytes) -> None:
    """Disagreeing headers, compression, encryption and ranges outside are malformed."""
    with pytest.raises(MalformedError):
        TorchZip().spans(MemorySource(content))


def test_the_good_file_is_good() -> None:
    """The file that the lies are made from is a valid one."""
    result = split(MemorySource(GOOD))
    assert (result.format, result.warning) == ("torch", "")


@given(strategies.torch_files)
def test_entries_are_those_that_zipfile_reads(file: strategies.File) -> None:
    """Names and bytes of the entries are what Python's zipfile finds."""
    content, _ = file
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        theirs = {name: archive.read(name) for name in archive.namelist()}
    entries = read_entries(MemorySource(content))
    assert {name: content[one.start : one.stop] for name, one in entries.items()} == theirs


def test_huge_claimed_records_are_not_read() -> None:
    """Whatever a damaged file claims, no read is longer than the file's own directory."""
    for content in ZIP_LIES.values():
        source = MemorySource(content)
        split(source)
        assert source.longest_read <= max(len(content), 64)

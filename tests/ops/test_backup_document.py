"""The document of a backup is read as it was written, and nothing else is taken for one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import IntegrityError, StoreError, UsageError
from modelstore.hashing import Digest
from modelstore.names import ModelName
from modelstore.ops.backup_document import (
    Backup,
    BackupFile,
    BackupModel,
    Missing,
    decode,
    encode,
    is_known,
    key_of,
    moment_of,
    new_name,
)
from modelstore.remotes.base import is_key

DIGESTS = st.integers(0, 2**256 - 1).map(lambda number: Digest(f"{number:064x}"))
VERSIONS = st.tuples(st.integers(0, 99), st.integers(0, 99)).map(
    lambda pair: f"v{pair[0]}.{pair[1]}"
)
MODELS = st.sampled_from([ModelName("llama_1b"), ModelName("a"), ModelName("x.y-z")])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MOMENTS = st.integers(86400, 1 << 37).map(
    lambda seconds: datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)
)
PATHS = st.sampled_from(
    [
        "README.md",
        ".gitignore",
        ".mstore/config.json",
        ".mstore/adopted/llama_1b-0123.json",
        "llama_1b/model_registry.json",
        "llama_1b/journal.jsonl",
        "llama_1b/v1.0/README.md",
        "llama_1b/v1.10.2-rc.1/model_info.json",
    ]
)


@st.composite
def files(draw: st.DrawFn) -> BackupFile:
    """Return a small file whose spans add up."""
    spans = tuple(draw(st.lists(st.tuples(DIGESTS, st.integers(1, 1 << 40)), max_size=3)))
    return BackupFile(draw(PATHS), sum(size for _, size in spans), draw(DIGESTS), spans)


BACKUPS = st.builds(
    Backup,
    name=MOMENTS.map(new_name),
    created_at=TEXTS,
    host=TEXTS,
    mstore=TEXTS,
    models=st.dictionaries(
        MODELS,
        st.builds(
            BackupModel,
            st.integers(0, 1 << 40),
            DIGESTS,
            st.dictionaries(VERSIONS, DIGESTS, max_size=4),
        ),
    ),
    files=st.lists(files(), max_size=3).map(tuple),
    missing=st.lists(
        st.builds(Missing, DIGESTS, TEXTS, st.lists(TEXTS, max_size=2).map(tuple)), max_size=2
    ).map(tuple),
    sizes=st.dictionaries(TEXTS, st.integers(0, 1 << 60), max_size=3),
)


@given(BACKUPS)
def test_a_document_is_read_as_it_was_written(one: Backup) -> None:
    """Whatever is in it, it comes back, and its key can be one."""
    assert decode(encode(one), one.name) == one
    assert is_key(key_of(one.name))


@given(BACKUPS, st.data())
def test_any_other_byte_is_noticed(one: Backup, data: st.DataObject) -> None:
    """A document of which one byte was changed is none."""
    text = bytearray(encode(one))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreError):
        decode(bytes(text), one.name)


@given(st.binary(max_size=200))
def test_what_is_no_document_is_refused(data: bytes) -> None:
    """Any bytes are an error that says so."""
    with pytest.raises(IntegrityError):
        decode(data, "20260101T000000Z-00000000")


@given(MOMENTS, st.integers(1, 10**6))
def test_later_names_sort_behind_earlier_ones(moment: datetime, later: int) -> None:
    """By text, from a sixteenth of a millisecond on."""
    first, second = new_name(moment), new_name(moment + timedelta(microseconds=15 + later))
    assert first[:20] <= second[:20]
    assert first < second
    assert moment_of(first) == moment.replace(microsecond=0)


@pytest.mark.parametrize(
    "name",
    ["", "x", "20261301T000000Z-00000000", "20260101T000000Z-0", "20260101T000000Z-0000000g"],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    """A name has a moment that there is, and eight hex digits."""
    with pytest.raises(UsageError):
        moment_of(name)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../README.md",
        "a/../README.md",
        ".mstore/format.json",
        ".mstore/adopted/../format.json",
        ".mstore/adopted/.json",
        ".mstore/refs/m/0000000001.json",
        "llama_1b/v1.0/model.safetensors",
        "llama_1b/v1.0/sub/README.md",
        "llama_1b/notes.txt",
        "con/journal.jsonl",
        "README.md/",
    ],
)
def test_no_other_path_is_ever_written(path: str) -> None:
    """Only the small files of a store have a place in a document."""
    assert not is_known(path)

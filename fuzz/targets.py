"""What is fuzzed: one function per parser, which raises only if the parser broke its promise.

A target takes any bytes. Errors that the parser documents are fine and end it; what else is raised
is a finding. Where a parser accepts its input, the target also checks what acceptance promises, such
as spans that cover the file.
Checksums would stop every mutation at the door, so frames and registries are sealed again first.

The targets need nothing but mstore: `fuzz.run` feeds them with atheris, the tests with the saved
corpus in ``tests/data/corpus``.
"""

from __future__ import annotations

import atexit
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from modelstore import manifest
from modelstore.blobs import BlobStore
from modelstore.canonical import parse
from modelstore.errors import IntegrityError, StoreError
from modelstore.formats.base import MalformedError, Split
from modelstore.formats.gguf import Gguf
from modelstore.formats.safetensors import Safetensors
from modelstore.formats.split import split
from modelstore.formats.torch_pickle import read_tensors
from modelstore.formats.torch_zip import TorchZip
from modelstore.hashing import Digest, checksum, digest_of
from modelstore.names import (
    is_model,
    parse_alias,
    parse_path,
    parse_ref,
    parse_version,
    path_key,
    printable,
)
from modelstore.ops.foreign import read_registry
from modelstore.server.xet.shard import BadShardError, files
from modelstore.server.xet.xorb import BadXorbError, XorbDecoder
from modelstore.state import State, apply, empty_document, parse_record
from modelstore.view import open_view, render

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "data" / "corpus"
FRAMES = ROOT / "tests" / "data" / "frames"

_CHECKSUM = b'\n"checksum":"'
_RECORD_CHECKSUM = b', "checksum": "'
_HEADER, _ROW, _SUM = 128, 20, 16
_COUNT_AT, _NAME_AT = 32, 64
_ENOUGH = 4
"""Blocks of a hostile frame that are decoded; each may be 32 MiB."""


class _Source:
    """Bytes as a file that is being split; every read must lie within them."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self.name = name
        self.size = len(data)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)``."""
        if not 0 <= start <= stop <= self.size:
            raise AssertionError(f"bytes {start} to {stop} of {self.size} were asked for")
        return self._data[start:stop]


def safetensors(data: bytes) -> None:
    """A safetensors file is split, or refused with `MalformedError`, and stored either way."""
    with suppress(MalformedError):
        Safetensors().spans(_Source(data, "model.safetensors"))
    _check_cover(split(_Source(data, "model.safetensors")), data)


def torch(data: bytes) -> None:
    """So is a file that begins as those of torch.save do; the same bytes are tried as a pickle."""
    source = _Source(data, "pytorch_model.bin")
    with suppress(MalformedError):
        TorchZip().spans(source)
    with suppress(MalformedError):
        read_tensors(data)
    _check_cover(split(source), data)


def gguf(data: bytes) -> None:
    """So is a GGUF file."""
    with suppress(MalformedError):
        Gguf().spans(_Source(data, "model.gguf"))
    _check_cover(split(_Source(data, "model.gguf")), data)


def _check_cover(cut: Split, data: bytes) -> None:
    at = 0
    for span in cut.spans:
        if span.start != at or span.stop < at:
            raise AssertionError(f"spans leave a hole or overlap at byte {at}")
        at = span.stop
    if at != len(data):
        raise AssertionError(f"spans end at byte {at} of {len(data)}")
    printable(cut.warning).encode()


def frame(data: bytes) -> None:
    """A frame with right checksums is decoded to the bytes of its name, or refused."""
    sealed = _sealed_frame(data)
    blobs = _frame_store()
    digest = Digest(sealed[_NAME_AT : _NAME_AT + 32].hex())
    if digest in _golden() or len(digest) != 64:
        return
    path = blobs.path(digest)
    path.write_bytes(sealed)
    try:
        with suppress(IntegrityError):
            blobs.check(digest)
        for _, _block in zip(range(_ENOUGH), blobs.blocks(digest), strict=False):
            pass
    except StoreError:
        pass
    finally:
        path.unlink()


def _sealed_frame(data: bytes) -> bytes:
    """Return ``data`` with the checksums that its header and blocks should have, as far as it goes."""
    if len(data) < _HEADER + _SUM:
        return data
    count = struct.unpack_from("<I", data, _COUNT_AT)[0]
    start = _HEADER + count * _ROW + _SUM
    if start > len(data):
        return data
    frame = bytearray(data)
    for index in range(count):
        row = _HEADER + index * _ROW
        length = struct.unpack_from("<I", data, row)[0]
        frame[row + 4 : row + _ROW] = checksum(data[start : start + length], _SUM)
        start += length
    header = _HEADER + count * _ROW
    frame[header : header + _SUM] = checksum(bytes(frame[:header]), _SUM)
    return bytes(frame)


@cache
def _frame_store() -> BlobStore:
    """Return a store that holds the golden frames, for frames that are built on them."""
    directory = tempfile.mkdtemp(prefix="mstore-fuzz-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    blobs = BlobStore(Path(directory), threads=1)
    blobs.create()
    for name, path in _golden().items():
        blobs.path(name).write_bytes(path.read_bytes())
    return blobs


@cache
def _golden() -> dict[Digest, Path]:
    named = ((path, path.read_bytes()[_NAME_AT : _NAME_AT + 32]) for path in FRAMES.glob("*.frame"))
    return {Digest(name.hex()): path for path, name in named}


def manifests(data: bytes) -> None:
    """A manifest that is accepted has safe paths, and is written as it was read."""
    with suppress(StoreError):
        parse(data, "JSON")
    try:
        found = manifest.decode(data)
    except StoreError:
        return
    for file in found.files:
        _check_path(file.path)
    if manifest.decode(manifest.encode(found)) != found:
        raise AssertionError("a manifest changed when it was written")
    _ = found.size, found.tied, found.parameter_count, found.content(), found.tokenizer_fingerprint
    manifest.from_scalars(found.metrics)


def registry(data: bytes) -> None:
    """A view, a record or a foreign registry of any shape is read, or refused."""
    with suppress(StoreError):
        document = open_view(_sealed(data, _CHECKSUM, b'"\n}\n'), "view")
        if document is not None:
            _look_at(State(document))
            render(document)
    with suppress(StoreError):
        before = empty_document(_MODEL)
        payload = _sealed(data, _RECORD_CHECKSUM, b'"}\n')
        after = apply(before, parse_record(payload, before), digest_of(payload))
        _look_at(State(after))
        render(after)
    read_registry(data, "model_registry.json", "llama_1b")


_MODEL = "llama_1b"


def _sealed(data: bytes, before: bytes, after: bytes) -> bytes:
    cut = data.rfind(before)
    body = data[:cut] if cut >= 0 else data
    return body + before + digest_of(body).encode() + after


def _look_at(state: State) -> None:
    """Ask a state all that the verbs ask."""
    _ = state.seq, state.head, state.active, state.aliases, state.history, state.base_model
    state.versions(), state.removed(), state.newest_stored()
    for entry in state.entries():
        _ = entry.id, entry.seq, entry.parents, entry.text("message"), entry.mapping("metrics")
        state.entry(str(entry.version))
        if entry.id is not None:
            state.with_id(entry.id)


def refs(data: bytes) -> None:
    """A ref, a version, an alias, a model or a path is refused, or is what it seems to be."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(StoreError):
        ref = parse_ref(text)
        if parse_ref(str(ref)) != ref:
            raise AssertionError(f"{text!r} is read in two ways")
    with suppress(StoreError):
        if parse_version(str(parse_version(text))) != parse_version(text):
            raise AssertionError(f"{text!r} is read in two ways")
    with suppress(StoreError):
        parse_alias(text)
    if is_model(text):
        _check_inside(text)
    with suppress(StoreError):
        _check_path(parse_path(text))
        path_key(text)
    if any(not c.isprintable() and c < "\xa0" for c in printable(text)):
        raise AssertionError(f"{text!r} can move a terminal's cursor")


def _check_path(path: str) -> None:
    parse_path(path)
    _check_inside(path)


def _check_inside(path: str) -> None:
    for kind in (PurePosixPath, PureWindowsPath):
        parts = kind(path)
        if parts.is_absolute() or parts.drive or parts.root or ".." in parts.parts:
            raise AssertionError(f"{path!r} leads out of its directory")


def xorb(data: bytes) -> None:
    """A xorb gives chunks that add up, or is refused; in pieces it is the same one."""
    found = _decoded([data])
    if _decoded([data[: len(data) // 2], data[len(data) // 2 :]]) != found:
        raise AssertionError("a xorb is another one when it comes in pieces")


def _decoded(pieces: list[bytes]) -> str:
    decoder = XorbDecoder()
    raw = b""
    try:
        raw = b"".join(map(decoder.feed, pieces))
        name = decoder.name()
    except BadXorbError:
        return ""
    if decoder.ends[-1] != len(raw):
        raise AssertionError("the chunks of a xorb do not add up")
    return name


def shard(data: bytes) -> None:
    """A shard gives files whose terms add up, or is refused."""
    with suppress(BadShardError):
        for file in files(data):
            if sum(term.size for term in file.terms()) != file.size:
                raise AssertionError("the terms of a file do not add up")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "safetensors": safetensors,
    "torch": torch,
    "gguf": gguf,
    "frame": frame,
    "manifest": manifests,
    "registry": registry,
    "ref": refs,
    "xorb": xorb,
    "shard": shard,
}
"""Every target by its name, which is that of its directory in the corpus."""


def saved(target: str) -> Iterator[Path]:
    """Yield the saved inputs of a target."""
    yield from sorted(path for path in (CORPUS / target).glob("*") if path.is_file())

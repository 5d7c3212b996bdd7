"""Where fuzzing begins: small valid inputs of every kind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from modelstore import manifest
from modelstore.formats.base import Tensor, View
from modelstore.hashing import digest_of
from modelstore.manifest import BlobSpan, FileEntry, Manifest
from modelstore.names import parse_model
from modelstore.state import Change, State, apply, empty_document, make_record
from modelstore.view import render
from tests.builders import gguf_bytes, pickle_bytes, safetensors_bytes, torch_bytes, values
from tests.server.xet_builders import shard_of, xorb_of

ROOT = Path(__file__).resolve().parent.parent
_MOST_OF_A_FRAME = 3000
_MODEL = parse_model("llama_1b")
_AT = "2026-01-02T03:04:05Z"


def write(target: str, directory: Path) -> None:
    """Put the seeds of a target, and its saved corpus, into ``directory``."""
    for number, data in enumerate(of(target)):
        (directory / f"seed-{number}").write_bytes(data)
    for path in (ROOT / "tests" / "data" / "corpus" / target).glob("*"):
        shutil.copy(path, directory / path.name)


def of(target: str) -> Iterator[bytes]:
    """Yield the seeds of a target."""
    yield from _SEEDS[target]()


def _safetensors() -> Iterator[bytes]:
    yield safetensors_bytes({})
    yield safetensors_bytes({"w": values("F32", 2, 3), "e": values("BF16", 0), "s": values("U8")})
    yield safetensors_bytes({"w": values("F4", 2, 4)}, {"format": "pt", "": "é"})


def _torch() -> Iterator[bytes]:
    yield torch_bytes({"w": values("F32", 2, 3), "a.b": values("BF16", 4)})
    yield torch_bytes({"w": values("F8_E4M3", 2)})
    yield pickle_bytes({"a": [1, (2, "x"), None], "b": {"c": True}})


def _gguf() -> Iterator[bytes]:
    yield gguf_bytes({})
    yield gguf_bytes({"w": values("F32", 2, 3), "v": values("BF16", 4)}, alignment=64)


def _frames() -> Iterator[bytes]:
    for path in sorted((ROOT / "tests" / "data" / "frames").glob("*.frame")):
        if path.stat().st_size <= _MOST_OF_A_FRAME:
            yield path.read_bytes()


def _manifest() -> Manifest:
    digest = digest_of(b"blob")
    tensors = (Tensor("w", "BF16", (2, 3)), Tensor("tied", "BF16", (2, 3)))
    strided = Tensor("v", "F32", (2,), View(1, (2,)))
    spans = (
        BlobSpan(digest, 10),
        BlobSpan(digest, 12, "BF16", tensors),
        BlobSpan(digest, 16, "F32", (strided,)),
    )
    file = FileEntry("a/model.bin", 38, digest, "0" * 64, "0" * 40, "torch", False, spans)
    return Manifest((file,), (digest,), "why", "who", _AT, "base", {"lr": "2e-05"}, {"loss": 1})


def _manifests() -> Iterator[bytes]:
    yield manifest.encode(Manifest(()))
    yield manifest.encode(_manifest())


def _registries() -> Iterator[bytes]:
    before = empty_document(_MODEL)
    digest = digest_of(b"manifest")
    change = Change(
        "commit",
        {"v1.0": {"id": digest, "seq": 1, "parents": [digest], "notes": "n"}},
        {"aliases": {"prod": "v1.0"}},
        "v1.0",
        "why",
        {"v0.9": {"id": digest, "seq": 1}},
    )
    record, payload = make_record(State(before), change, _AT)
    yield render(before)
    yield payload
    yield render(apply(before, record, digest_of(payload)))
    yield b'{"versions": {"v1.0": {"is_active": true, "notes": 1e999}}, "active_version": "v1"}'
    yield b'[{"version": 1.0, "metrics": {"loss": NaN}}]'


def _refs() -> Iterator[bytes]:
    for text in ("llama_1b@ACTIVE~1^2@{3}", "v1.2.3-rc.1", "b3:0123456789ab", "-", "prod", "a/b.c"):
        yield text.encode()
    yield "COM¹/é\u202e../con.txt".encode()


def _xorbs() -> Iterator[bytes]:
    yield xorb_of([(b"abcdefgh" * 20, scheme) for scheme in range(3)])
    yield xorb_of([(b"a", 0)]) + b"XETBLOB"


def _shards() -> Iterator[bytes]:
    name = "0123456789abcdef" * 4
    terms = [(name, 10, 0, 1), (name, 20, 3, 5)]
    yield shard_of([(name, name, terms), (name, "", terms[:1])])
    yield shard_of([(name, "", terms)], verified=False)


_SEEDS = {
    "safetensors": _safetensors,
    "torch": _torch,
    "gguf": _gguf,
    "frame": _frames,
    "manifest": _manifests,
    "registry": _registries,
    "ref": _refs,
    "xorb": _xorbs,
    "shard": _shards,
}

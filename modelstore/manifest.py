"""The manifest: what a version consists of, as a value and as canonical JSON.

A manifest is a blob, and its BLAKE3 is the version's id.
It holds integers and strings only; a measured value such as a loss is a decimal string.
It says nothing about how blobs are encoded, which may change while the version may not.
The normative description is docs/format.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelstore.canonical import canonical, excess_of, parse_mapping
from modelstore.curve import CurvePoint, curve_value, parse_curve
from modelstore.errors import BadNameError, IntegrityError, NewerFormatError, UsageError
from modelstore.formats.base import MalformedError, Tensor, View
from modelstore.formats.rules import count_values
from modelstore.hashing import Digest, digest_of, parse_digest
from modelstore.names import collision, parse_path

SCHEMA = "mstore/manifest/1"

_MOST_SAID = 400

Scalar = int | str
"""What a parameter or metric is within a manifest."""


@dataclass(frozen=True, slots=True)
class BlobSpan:
    """A span of a file: the blob it is, and how to read it.

    Attributes:
        blob: the digest of the span's bytes.
        size: in bytes.
        dtype: as in `modelstore.formats.base.Span`.
        tensors: the tensors in it, () for literal bytes.
    """

    blob: Digest
    size: int
    dtype: str = ""
    tensors: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a version.

    Attributes:
        path: relative to the version's directory, forward slashes.
        size: in bytes; the sum of the spans' sizes.
        blake3, sha256: of the whole file.
        git_sha1: the name git gives it; "" for files over 10 MiB.
        format: the format that found the spans.
        executable: whether the owner may run it.
        spans: in file order.
    """

    path: str
    size: int
    blake3: Digest
    sha256: str
    git_sha1: str
    format: str
    executable: bool
    spans: tuple[BlobSpan, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A version's content and where it came from.

    Attributes:
        files: sorted by path.
        parents: ids (manifest digests) of the versions it was made from.
        message: what the committer said.
        author: who, if they said so.
        created_at: RFC 3339, UTC, whole seconds.
        base_model: the model the line started from, as the user spells it ("llama3.2:1b").
        parameters, metrics: of the training.
        data: the training data: name, size, rows, blake3 of each file.
        environment: what it was trained with.
        curve: how the loss went, steps rising; () where that is not known.
    """

    files: tuple[FileEntry, ...]
    parents: tuple[Digest, ...] = ()
    message: str = ""
    author: str = ""
    created_at: str = ""
    base_model: str = ""
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    data: tuple[Mapping[str, Scalar], ...] = ()
    environment: Mapping[str, Scalar] = field(default_factory=dict)
    curve: tuple[CurvePoint, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def file(self, path: str) -> FileEntry | None:
        """Return the file at ``path``, None where there is none."""
        return next((file for file in self.files if file.path == path), None)

    def tensors(self) -> Iterator[tuple[FileEntry, BlobSpan, Tensor]]:
        """Yield every tensor with the span and the file it lies in, in file order."""
        for file in self.files:
            for span in file.spans:
                for tensor in span.tensors:
                    yield file, span, tensor

    def blobs(self) -> set[Digest]:
        """Return the digests of all spans."""
        return {span.blob for file in self.files for span in file.spans}

    @property
    def tied(self) -> dict[str, str]:
        """Names of tensors that share their bytes with an earlier one of the same file."""
        return {
            tensor.name: span.tensors[0].name
            for file in self.files
            for span in file.spans
            for tensor in span.tensors[1:]
            if tensor.view is None
        }

    @property
    def parameter_count(self) -> int:
        """Number of values in all tensors; tied ones count once, and so do equal files."""
        counted: dict[Digest, int] = {}
        for _, span, tensor in self.tensors():
            if tensor.view is None:
                counted[span.blob] = math.prod(tensor.shape)
            else:
                counted[span.blob] = counted.get(span.blob, 0) + math.prod(tensor.shape)
        return sum(counted.values())

    @property
    def schema_fingerprint(self) -> Digest:
        """Digest of names, dtypes and shapes: differs when versions cannot stand in for each other."""
        rows = sorted({(t.name, t.dtype, t.shape) for _, _, t in self.tensors()})
        return digest_of(canonical([[name, dtype, list(shape)] for name, dtype, shape in rows]))

    @property
    def weights_fingerprint(self) -> Digest:
        """Digest of all tensors: equal when two versions compute the same, however they are filed."""
        rows = sorted({(t.name, t.dtype, t.shape, str(s.blob)) for _, s, t in self.tensors()})
        return digest_of(canonical([[n, d, list(shape), b] for n, d, shape, b in rows]))

    @property
    def tokenizer_fingerprint(self) -> Digest:
        """Digest of the tokenizer's files."""
        rows = [[f.path, str(f.blake3)] for f in self.files if "token" in f.path.rsplit("/")[-1]]
        return digest_of(canonical(rows))

    def content(self) -> tuple[tuple[str, Digest, bool], ...]:
        """Return what makes two versions the same content: paths, digests, modes."""
        return tuple((file.path, file.blake3, file.executable) for file in self.files)


def encode(manifest: Manifest) -> bytes:
    """Return the canonical JSON of ``manifest``; its BLAKE3 is the version's id.

    Raises:
        UsageError: it is larger than `decode` would read.
    """
    data = canonical(_value(manifest))
    excess = excess_of(data)
    if excess:
        raise UsageError(f"the manifest of so many files {excess}", "make fewer files a version")
    return data


def _value(manifest: Manifest) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "files": [_file_value(file) for file in manifest.files],
        "parents": list(manifest.parents),
        "message": manifest.message,
        "author": manifest.author,
        "created_at": manifest.created_at,
        "base_model": manifest.base_model,
        "training": {
            "parameters": _scalars(manifest.parameters),
            "metrics": _scalars(manifest.metrics),
            "data": [_scalars(row) for row in manifest.data],
            "environment": _scalars(manifest.environment),
            # no key without a curve: so the ids of such versions stay as they always were
            **({"curve": curve_value(manifest.curve)} if manifest.curve else {}),
        },
        "fingerprints": {
            "schema": manifest.schema_fingerprint,
            "weights": manifest.weights_fingerprint,
            "tokenizer": manifest.tokenizer_fingerprint,
        },
    }


def decode(data: bytes, what: str = "a manifest") -> Manifest:
    """Return the manifest that ``data`` spells.

    Raises:
        IntegrityError: it breaks a rule of docs/format.md.
        NewerFormatError: its schema is not one that this mstore knows.
    """
    value = parse_mapping(data, what)
    schema = value.get("schema")
    if schema != SCHEMA:
        if isinstance(schema, str) and schema.startswith("mstore/manifest/"):
            raise NewerFormatError(f"{what} has schema {schema!r}", "pip install -U mstore")
        raise IntegrityError(f"{what} is not a manifest of mstore")
    try:
        return _manifest(value)
    except (KeyError, TypeError, ValueError, BadNameError, MalformedError) as error:
        reason = str(error)[:_MOST_SAID]  # it may quote what it refuses, and that may be anything
        raise IntegrityError(f"{what} is malformed: {reason}", "run: mstore fsck --full") from error


def is_manifest(data: bytes) -> bool:
    """Tell whether ``data`` begins as the manifests of mstore do; keys are sorted, so "author" leads."""
    return data.startswith(b'{"author":') and b'"schema":"mstore/manifest/' in data


def to_scalars(values: Mapping[str, object]) -> dict[str, Scalar]:
    """Return ``values`` as a manifest holds them: floats and flags as strings, None left out."""
    return {str(key): _scalar(item) for key, item in values.items() if item is not None}


def from_scalars(values: Mapping[str, Scalar]) -> dict[str, int | float | str]:
    """Return ``values`` with finite decimal strings as numbers again, for showing and comparing."""
    return {key: _number(item) for key, item in values.items()}


def _scalar(item: object) -> Scalar:
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int):
        return item if _is_int64(item) else hex(item)  # hex: str() refuses over 4300 digits
    return repr(item) if isinstance(item, float) else str(item)


def _number(item: Scalar) -> int | float | str:
    if isinstance(item, int) or not item or item[0] not in "+-.0123456789":
        return item
    try:
        number = float(item)
    except ValueError:
        return item
    return number if math.isfinite(number) else item  # JSON has no infinity


def _file_value(file: FileEntry) -> dict[str, object]:
    return {
        "path": file.path,
        "size": file.size,
        "blake3": file.blake3,
        "sha256": file.sha256,
        "git_sha1": file.git_sha1,
        "format": file.format,
        "executable": int(file.executable),
        "spans": [_span_value(span) for span in file.spans],
    }


def _span_value(span: BlobSpan) -> dict[str, object]:
    value: dict[str, object] = {"blob": span.blob, "size": span.size}
    if span.dtype:
        value["dtype"] = span.dtype
    if span.tensors:
        value["tensors"] = [_tensor_value(tensor) for tensor in span.tensors]
    return value


def _tensor_value(tensor: Tensor) -> dict[str, object]:
    value: dict[str, object] = {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
    }
    if tensor.view is not None:
        value["offset"] = tensor.view.offset
        value["strides"] = list(tensor.view.strides)
    return value


def _manifest(value: dict[str, Any]) -> Manifest:
    training = value["training"]
    files = tuple(_file(item) for item in _list(value["files"]))
    _check_paths(files)
    return Manifest(
        files=files,
        parents=tuple(parse_digest(item) for item in _list(value["parents"])),
        message=_text(value["message"]),
        author=_text(value["author"]),
        created_at=_text(value["created_at"]),
        base_model=_text(value["base_model"]),
        parameters=_scalars(training["parameters"]),
        metrics=_scalars(training["metrics"]),
        data=tuple(_scalars(row) for row in _list(training["data"])),
        environment=_scalars(training["environment"]),
        curve=tuple(parse_curve(training["curve"])) if "curve" in training else (),
    )


def _check_paths(files: Sequence[FileEntry]) -> None:
    previous = ""
    for file in files:
        parse_path(file.path)
        if file.path <= previous:
            raise ValueError(f"the files are not sorted at {file.path!r}")
        previous = file.path
    found = collision(file.path for file in files)
    if found:
        raise ValueError(f"two files cannot be told apart: {found[0]!r} and {found[1]!r}")


def _file(value: dict[str, Any]) -> FileEntry:
    spans = tuple(_span(item) for item in _list(value["spans"]))
    size = _count(value["size"])
    if sum(span.size for span in spans) != size:
        raise ValueError(f"the spans of {value['path']!r} do not add up to its size")
    return FileEntry(
        path=_text(value["path"]),
        size=size,
        blake3=parse_digest(value["blake3"]),
        sha256=_hex(value["sha256"], 64),
        git_sha1=_hex(value["git_sha1"], 40) if value["git_sha1"] != "" else "",
        format=_text(value["format"]),
        executable=_flag(value["executable"]),
        spans=spans,
    )


def _span(value: dict[str, Any]) -> BlobSpan:
    return BlobSpan(
        blob=parse_digest(value["blob"]),
        size=_count(value["size"]),
        dtype=_text(value.get("dtype", "")),
        tensors=tuple(_tensor(item) for item in _list(value.get("tensors", []))),
    )


def _tensor(value: dict[str, Any]) -> Tensor:
    view = None
    if "offset" in value:
        strides = tuple(_count(n) for n in _list(value["strides"]))
        if len(strides) != len(_list(value["shape"])):
            raise ValueError(f"a tensor has {len(strides)} strides")
        view = View(_count(value["offset"]), strides)
    shape = tuple(_count(n) for n in _list(value["shape"]))
    count_values(shape, _text(value["name"]))
    return Tensor(_text(value["name"]), _text(value["dtype"]), shape, view)


def _scalars(value: Mapping[str, Scalar]) -> dict[str, Scalar]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is not an object")
    for item in value.values():
        if not isinstance(item, str) and not _is_int64(item):
            raise TypeError(f"{item!r} is neither an integer of 64 bits nor a string")
    return dict(value)


def _is_int64(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


def _hex(value: object, digits: int) -> str:
    if not re.fullmatch(f"[0-9a-f]{{{digits}}}", _text(value)):
        raise ValueError(f"{value!r} is not {digits} hex digits")
    return _text(value)


def _flag(value: object) -> bool:
    if _count(value) > 1:
        raise ValueError(f"{value!r} is neither 0 nor 1")
    return bool(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r} is not a size")
    return value

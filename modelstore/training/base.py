"""The directory a fine-tune starts from: checked before any time is spent on it.

Fine-tuning changes weights and nothing else, so every other file that makes up the model is carried
over as it is: the same configuration, tokenizer and licence, byte for byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path

from modelstore.canonical import parse_mapping
from modelstore.disk import explained
from modelstore.errors import IntegrityError, NotFoundError, UsageError
from modelstore.formats.base import Span
from modelstore.formats.split import split
from modelstore.hashing import Digest, Hasher
from modelstore.ops.scan import CommittedFile

_PIECE = 8 << 20
"""Bytes read at once."""

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""As transformers looks for them: one file, or the index of several beside it."""

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")

_CARRIED = (
    "config.json",
    "generation_config.json",
    "chat_template.*",
    "tokenizer*",
    "*token*.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "LICENSE*",
    "NOTICE*",
)


@dataclass(frozen=True, slots=True)
class Base:
    """A model on disk that transformers can load.

    Attributes:
        directory: where.
        weights: its weight files, in order.
        carried: the files that a fine-tune of it keeps.
        dtypes: of every tensor by name, as safetensors spells them.
        parameters: values of all tensors; tied ones count once.
    """

    directory: Path
    weights: tuple[Path, ...]
    carried: tuple[Path, ...]
    dtypes: Mapping[str, str]
    parameters: int = 0

    def dtype_of(self, name: str) -> str:
        """Return the dtype of the tensor ``name``, or the usual one if it has another name here."""
        if name in self.dtypes:
            return self.dtypes[name]
        return Counter(self.dtypes.values()).most_common(1)[0][0]


def open_base(directory: Path) -> Base:
    """Return the model in ``directory``.

    Raises:
        NotFoundError: there is no such directory.
        UsageError: configuration, tokenizer or weights are missing from it.
    """
    if not directory.is_dir():
        raise NotFoundError(f"there is no directory '{directory}'", "name a model: --base DIR")
    if not (directory / "config.json").is_file():
        raise _incomplete(directory, "config.json")
    if not any((directory / name).is_file() for name in _TOKENIZERS):
        raise _incomplete(directory, "tokenizer (tokenizer.json)")
    with explained(directory, "read"):
        present = sorted(path for path in directory.iterdir() if path.is_file())
    carried = [path for path in present if is_carried(path.name)]
    weights = tuple(_weight_files(directory))
    spans = [span for path in weights for span in _tensor_spans(path)]
    dtypes = {tensor.name: tensor.dtype for span in spans for tensor in span.tensors}
    values = sum(prod(span.tensors[0].shape) for span in spans)
    return Base(directory, weights, tuple(carried), dtypes, values)


def digest_of_base(base: Base) -> Digest:
    """Return what tells this base from any other: the digest of its files' names and digests."""
    return digest_of_files(sorted({*base.weights, *base.carried}))


def digest_of_files(paths: Sequence[Path]) -> Digest:
    """Return the digest of the names and the contents of some files, in that order."""
    whole = Hasher()
    for path in paths:
        one = Hasher()
        with explained(path, "read"), open(path, "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                one.update(piece)
        whole.update(f"{path.name}\0{one.digest()}\n".encode("utf-8", "surrogateescape"))
    return whole.digest()


def is_carried(name: str) -> bool:
    """Tell whether a fine-tune keeps the file of that name as it is."""
    return any(fnmatchcase(name, pattern) for pattern in _CARRIED)


def _weight_files(directory: Path) -> Iterator[Path]:
    for name in _WEIGHTS:
        single, index = directory / name, directory / f"{name}.index.json"
        if single.is_file():
            yield single
            return
        if index.is_file():
            yield from _shards(directory, index)
            return
    raise _incomplete(directory, "weights (model.safetensors)")


def _shards(directory: Path, index: Path) -> Iterator[Path]:
    with explained(index, "read"):
        mapping = parse_mapping(index.read_bytes(), f"'{index}'").get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise IntegrityError(f"'{index}' names no weights")
    for name in sorted({str(shard) for shard in mapping.values()}):
        if not (directory / name).is_file():
            raise _incomplete(directory, name)
        yield directory / name


def _tensor_spans(path: Path) -> list[Span]:
    with CommittedFile(path, path.name) as source:
        found = split(source)
    spans = [span for span in found.spans if span.tensors]
    if not spans:
        raise IntegrityError(found.warning or f"'{path}' holds no tensors that mstore can read")
    return spans


def _incomplete(directory: Path, what: str) -> UsageError:
    return UsageError(
        f"'{directory}' has no {what}", "name a directory that transformers can load: --base DIR"
    )

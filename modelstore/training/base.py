"""The directory a fine-tune starts from: checked before any time is spent on it.

Fine-tuning changes weights and nothing else, so every other file that makes up the model is carried
over as it is: the same configuration, tokenizer and licence, byte for byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from modelstore.canonical import parse_mapping
from modelstore.disk import explained
from modelstore.errors import IntegrityError, NotFoundError, UsageError
from modelstore.formats.split import split
from modelstore.ops.scan import CommittedFile

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
    """

    directory: Path
    weights: tuple[Path, ...]
    carried: tuple[Path, ...]
    dtypes: Mapping[str, str]

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
    carried = [path for path in present if _is_carried(path.name)]
    weights = tuple(_weight_files(directory))
    dtypes = {name: dtype for path in weights for name, dtype in _dtypes(path)}
    return Base(directory, weights, tuple(carried), dtypes)


def _is_carried(name: str) -> bool:
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


def _dtypes(path: Path) -> Iterator[tuple[str, str]]:
    with CommittedFile(path, path.name) as source:
        found = split(source)
    tensors = [tensor for span in found.spans for tensor in span.tensors]
    if not tensors:
        raise IntegrityError(found.warning or f"'{path}' holds no tensors that mstore can read")
    for tensor in tensors:
        yield tensor.name, tensor.dtype


def _incomplete(directory: Path, what: str) -> UsageError:
    return UsageError(
        f"'{directory}' has no {what}", "name a directory that transformers can load: --base DIR"
    )

"""A GGUF file as a base: its weights, mostly quantised, become plain numbers that can be trained.

transformers reads the file, tokenizer and chat template included. Left alone it keeps the weights
packed, and such a model can be neither trained nor saved; told to dequantise, it is as any other.
"""

from __future__ import annotations

from collections import Counter
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from modelstore import disk
from modelstore.disk import explained
from modelstore.errors import UsageError
from modelstore.formats.gguf import MAGIC
from modelstore.formats.split import split
from modelstore.ops.scan import CommittedFile
from modelstore.training.quiet import quiet

_KEPT = {"F32": "float32", "F16": "float16"}
"""What has these dtypes keeps them; what is quantised has no more digits than bfloat16 holds."""


def is_gguf(path: Path) -> bool:
    """Tell whether the file at ``path`` begins as a GGUF file does."""
    with explained(path, "read"), open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def quantisation(path: Path) -> str:
    """Return the dtype that most weights of a GGUF file have: "Q8_0", "Q4_K", "F16".

    Raises:
        UsageError: it is damaged, or of a kind that mstore cannot read.
    """
    with CommittedFile(path, "model.gguf") as source:
        found = split(source)
    sizes: Counter[str] = Counter()
    for span in found.spans:
        for tensor in span.tensors:
            sizes[tensor.dtype] += span.stop - span.start
    if not sizes:
        raise _unusable(path, found.warning or "it holds no tensors")
    return sizes.most_common(1)[0][0]


def dequantise(path: Path, target: Path) -> None:
    """Write the model in the GGUF file at ``path`` into ``target`` as safetensors and tokenizer.

    Needs memory for the weights in float32.

    Args:
        target: a directory that does not exist.

    Raises:
        UsageError: transformers knows no such architecture, or the file is damaged.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    dtype = getattr(torch, _KEPT.get(quantisation(path), "bfloat16"))
    disk.make_new_dir(target)
    with quiet(), redirect_stderr(StringIO()):  # a bar that heeds none of the settings
        try:
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
            model = AutoModelForCausalLM.from_pretrained(
                path.parent,
                gguf_file=path.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
            )
        except MemoryError:
            raise
        except Exception as error:  # tokenizers raises nothing more special
            raise _unusable(path, " ".join(str(error).splitlines()[:1])) from error
        model.to(dtype).save_pretrained(target)
        tokenizer.save_pretrained(target)


def _unusable(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"'{path}' cannot be trained: {reason}",
        "name the model as it was before it became a GGUF file: --base DIR_OR_HUB_ID",
    )

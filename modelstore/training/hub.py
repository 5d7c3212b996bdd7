"""A model from the Hugging Face Hub: out of its cache on this machine, else over the network."""

from __future__ import annotations

import re
from pathlib import Path

from modelstore.errors import RemoteError, StoreError
from modelstore.training.base import open_base
from modelstore.training.quiet import quiet

HUB_IDS = {
    "llama3.2": "meta-llama/Llama-3.2-3B-Instruct",
    "llama3.2:1b": "meta-llama/Llama-3.2-1B-Instruct",
    "llama3.2:3b": "meta-llama/Llama-3.2-3B-Instruct",
    "llama3.1:8b": "meta-llama/Llama-3.1-8B-Instruct",
    "qwen3": "Qwen/Qwen3-8B",
    "qwen3:0.6b": "Qwen/Qwen3-0.6B",
    "qwen3:1.7b": "Qwen/Qwen3-1.7B",
    "qwen3:4b": "Qwen/Qwen3-4B",
    "qwen3:8b": "Qwen/Qwen3-8B",
    "qwen3:14b": "Qwen/Qwen3-14B",
    "smollm2:135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "smollm2:360m": "HuggingFaceTB/SmolLM2-360M-Instruct",
}
"""Where the Hugging Face Hub has what Ollama calls so, unquantised."""

_WANTED = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors", "LICENSE*", "NOTICE*")

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?\Z")


def hub_id(name: str) -> str:
    """Return the Hub's id of the model that a line calls ``name``."""
    return HUB_IDS.get(name, name)


def is_hub_id(name: str) -> bool:
    """Tell whether ``name`` could be the id of a model on the Hub: `owner/model`."""
    return bool(_ID.match(name))


def cached(name: str) -> Path | None:
    """Return the model's directory in the Hub's cache, or None where it is not there whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        directory = Path(
            snapshot_download(hub_id(name), allow_patterns=list(_WANTED), local_files_only=True)
        )
        open_base(directory)
    except (LocalEntryNotFoundError, StoreError):
        return None
    return directory


def download(name: str) -> Path:
    """Return the directory of the model ``name``, fetched unless the Hub's cache has it.

    Raises:
        RemoteError: it cannot be had: no network, no such model, or its terms are not accepted.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    directory = cached(name)
    if directory is not None:
        return directory
    try:
        with quiet():
            return Path(snapshot_download(hub_id(name), allow_patterns=list(_WANTED)))
    except (HfHubHTTPError, OSError) as error:
        raise RemoteError(
            f"the base {hub_id(name)!r} is not on this machine and cannot be had from the Hugging "
            f"Face Hub ({_reason(error)})",
            "give a copy of it: --base DIR, or --base FILE.gguf; or fetch it where there is a "
            f"network: hf download {hub_id(name)}",
        ) from error


def _reason(error: Exception) -> str:
    reasons = {
        "GatedRepoError": "its terms must be accepted there first, and then: hf auth login",
        "RepositoryNotFoundError": "it has no such model, or not for you",
        "LocalEntryNotFoundError": "no connection",
        "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set",
    }
    return reasons.get(type(error).__name__, type(error).__name__)

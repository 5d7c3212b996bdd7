"""A model from the Hugging Face Hub, for a line that has no version to start from."""

from __future__ import annotations

from pathlib import Path

from modelstore.errors import RemoteError
from modelstore.training.quiet import quiet

OLLAMA_NAMES = {
    "llama3.2:1b": "meta-llama/Llama-3.2-1B-Instruct",
    "qwen3:8b": "Qwen/Qwen3-8B",
}
"""Where the models lie that lines are set up with under the names Ollama gives them."""

_WANTED = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors", "LICENSE*", "NOTICE*")


def hub_id(name: str) -> str:
    """Return the Hub's id of the model that a line calls ``name``."""
    return OLLAMA_NAMES.get(name, name)


def download(name: str) -> Path:
    """Return the directory of the model ``name``, fetched unless the Hub's cache has it.

    Raises:
        RemoteError: it cannot be had: no network, no such model, or its terms are not accepted.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        with quiet():
            return Path(snapshot_download(hub_id(name), allow_patterns=list(_WANTED)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise RemoteError(
            f"the base {hub_id(name)!r} cannot be had from the Hugging Face Hub, and is not in its "
            f"cache here ({type(error).__name__})",
            "name a directory that holds the model: --base DIR",
        ) from error

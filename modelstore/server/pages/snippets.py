"""How to use a version: lines to copy."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote

from modelstore.manifest import Manifest
from modelstore.ops.resolve import Resolved
from modelstore.server.hub.ids import OWNER


@dataclass(frozen=True, slots=True)
class Snippet:
    """Lines to copy: their title, in what language, and what they are for."""

    title: str
    language: str
    text: str
    note: str = ""


def snippets(url: str, store: str, resolved: Resolved, manifest: Manifest) -> list[Snippet]:
    """Return ways to use a version.

    Args:
        url: of the server, as whoever asks sees it.
        store: the store's directory.
    """
    model, version = str(resolved.model), str(resolved.entry.version)
    repo, ref = f"{OWNER}/{model}", str(resolved)
    found = [
        Snippet("mstore", "bash", f"mstore -C {quote(store)} checkout {ref} -o ./{model}-{version}",
                "Writes the files into a directory, byte for byte."),
        Snippet("Python", "python",
                f"import modelstore\n\nstore = modelstore.open({store!r})\n"
                f'tensors = store.load("{ref}")', "Weights as arrays, without writing files."),
        Snippet("hf download", "bash",
                f"export HF_ENDPOINT={url}\nhf download {repo} --revision {version}",
                "Only files that the cache does not have are fetched."),
    ]  # fmt: skip
    if manifest.file("config.json") is not None:
        found[1:1] = [
            Snippet("transformers", "python",
                    f'import os\n\nos.environ["HF_ENDPOINT"] = "{url}"  # before the import\n\n'
                    "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
                    f'model = AutoModelForCausalLM.from_pretrained("{repo}", revision="{version}")\n'
                    f'tokenizer = AutoTokenizer.from_pretrained("{repo}", revision="{version}")'),
        ]  # fmt: skip
        found.append(
            Snippet("vLLM", "bash",
                    f"HF_ENDPOINT={url} vllm serve {repo} --revision {version}"),
        )  # fmt: skip
    if any(file.path.endswith(".gguf") for file in manifest.files):
        name = next(file.path for file in manifest.files if file.path.endswith(".gguf"))
        found.append(
            Snippet("llama.cpp", "bash",
                    f"curl -LO {url}/{repo}/resolve/{version}/{quote(name)}\n"
                    f"llama-cli -m {quote(name.rsplit('/', 1)[-1])}"),
        )  # fmt: skip
    return found

"""Init: a directory becomes a store, with the two lines of versions that it is known for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.errors import ConflictError
from modelstore.names import ModelName
from modelstore.ops.origin import state_of
from modelstore.state import Change, State
from modelstore.store import Store, create

LINES: Mapping[str, Mapping[str, Any]] = {
    "llama_1b": {
        "base_model": "llama3.2:1b",
        "description": "Laptop configuration (1B parameter model)",
        "defaults": {"preset": "laptop", "device": "cpu", "batch_size": 1, "epochs": 1},
    },
    "llama_8b": {
        "base_model": "qwen3:8b",
        "description": "PC configuration (8B parameter model)",
        "defaults": {"preset": "gpu", "device": "cuda", "batch_size": 8, "epochs": 3},
    },
}
"""The two set-ups that the directory is made for, as the user spells them."""

_README = """\
# Tuned models

Every fine-tune of a model is a version: `llama_1b/v1.0`, `llama_1b/v1.1`, ...
The weights lie in `.mstore/`, each tensor once; a version's directory holds what describes it, and
its files while it is checked out.

```bash
mstore list                     # models and versions, * on the active one
mstore commit DIR -M llama_1b -m "what changed"
mstore checkout llama_1b@v1.0   # write the files into llama_1b/v1.0/
mstore set-active v1.1
```
"""


@dataclass(frozen=True, slots=True)
class Initialised:
    """What init found or made.

    Attributes:
        store: the store.
        created: whether there was none before.
        models: the lines that were added.
    """

    store: Store
    created: bool
    models: tuple[ModelName, ...]


def init(root: Path, *, lines: bool = True) -> Initialised:
    """Make ``root`` a store; what is there already stays as it is.

    Args:
        lines: add the lines llama_1b and llama_8b, unless there are any models already.
    """
    existed = (root / ".mstore").is_dir()
    store = create(root)
    if not (root / "README.md").exists():
        disk.replace(root / "README.md", _README.encode("utf-8"))
    # a run that was cut short left some of them, and nothing else
    wanted = LINES if lines and set(store.models()) <= set(LINES) else {}
    added = []
    for name, values in wanted.items():
        model = ModelName(name)
        registry = store.registry(model)
        if registry.exists():
            store.bring_up(model)
        if registry.exists() or registry.is_foreign():
            continue
        _add_line(store, model, values)
        added.append(model)
    return Initialised(store, not existed, tuple(added))


def begin_line(store: Store, model: ModelName) -> None:
    """Begin a line that has no version yet.

    Raises:
        ConflictError: there is one of that name, or of one that some systems take for it.
    """
    state_of(store, model)

    def decide(state: State) -> Change:
        if state.seq:
            raise ConflictError(f"the model {model!r} exists already", "run: mstore list")
        return Change("init")

    store.change(model, decide)


def _add_line(store: Store, model: ModelName, values: Mapping[str, Any]) -> None:
    store.change(model, lambda _: Change("init", values=values))

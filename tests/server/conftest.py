"""A store with two versions of a line, served; and the directories that they were made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.pointer import set_alias
from modelstore.ops.resolve import resolve
from modelstore.store import Store, create
from tests.models import write_model
from tests.server.live import Live, serving

MODEL = ModelName("llama_1b")


@dataclass(frozen=True, slots=True)
class Scene:
    """A store, and what its versions were made of."""

    store: Store
    directories: dict[str, Path]
    live: Live

    def commit_id(self, version: str) -> str:
        """Return the first 40 digits of a version's id."""
        entry = self.store.state(MODEL).entry(version)
        assert entry is not None
        return str(entry.id)[:40]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """v1.0 and v1.1 of a line, of which v1.1 is ACTIVE and v1.0 is called prod."""
    root = tmp_path_factory.mktemp("served")
    store = create(root / "tuned_models")
    directories = {}
    for number, version in enumerate(("v1.0", "v1.1")):
        files: dict[str, bytes | str] = {
            "README.md": "# A model\n",
            "pytorch_model.bin": b"not a pickle",
            "extra/vocab.txt": "a\nb\n",
            "extra/deep/größe.txt": "ü",
            "empty.txt": "",
        }
        directory = write_model(root / version, seed=1, step=0.001 * number, files=files)
        commit(
            store,
            directory,
            MODEL,
            CommitOptions(f"message {version}\n\nmore", activate=True, author="Ann"),
        )
        directories[version] = directory
    set_alias(store, "prod", resolve(store, f"{MODEL}@v1.0"))
    with serving(store) as live:
        yield Scene(store, directories, live)

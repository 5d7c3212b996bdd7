"""What an import takes over: the files of another tool, and what that tool knows of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelstore.errors import UsageError
from modelstore.names import ModelName, is_model

_ODD = re.compile(r"[^A-Za-z0-9._-]+")

ORIGIN = "imported_from"
REVISION = "imported_revision"
"""Keys of the environment that a manifest records: where the files come from, and which they are."""


@dataclass(frozen=True, slots=True)
class Source:
    """Files elsewhere that can become a version.

    Attributes:
        origin: what names them for good, as in "hf:owner/name" or "ollama:llama3.2:1b".
        revision: which of that name they are: a commit, or a SHA-256; "" where that is not known.
        names: what the revision is called there.
        path: the directory or file that holds them; None where they lie scattered.
        scattered: by path within the version, where a file lies or what it holds.
        expected: by path, the digest that the other tool knows of a file.
        base_model: what the model was made from, "" where that is not known.
        suggested: a name for the model.
        size: bytes of all files.
        files: how many there are.
        warnings: sentences about what was odd.
    """

    origin: str
    revision: str = ""
    names: tuple[str, ...] = ()
    path: Path | None = None
    scattered: Mapping[str, Path | bytes] = field(default_factory=dict)
    expected: Mapping[str, str] = field(default_factory=dict)
    base_model: str = ""
    suggested: str = ""
    size: int = 0
    files: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What names it in messages: where it comes from, which it is, and how that is called."""
        said = f"{self.origin}@{self.revision[:12]}" if self.revision else self.origin
        return f"{said} ({', '.join(self.names)})" if self.names else said


def suggest(name: str) -> str:
    """Return a name of another tool's as a model could be called here."""
    return _ODD.sub("-", name).strip("-.")[:64].rstrip("-.")


def model_for(source: Source, said: ModelName | None) -> ModelName:
    """Return the model that a source becomes a version of.

    Raises:
        UsageError: nothing says what it could be called.
    """
    if said is not None:
        return said
    if not is_model(source.suggested):
        raise UsageError(
            f"what is the model of {source.origin} to be called here?",
            f"say it with -M, as in: mstore import {source.origin} -M llama_1b",
        )
    return ModelName(source.suggested)

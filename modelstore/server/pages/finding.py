"""Which line, and which version of it, a page is about."""

from __future__ import annotations

from dataclasses import dataclass

from modelstore.manifest import Manifest
from modelstore.names import ModelName, is_model, printable
from modelstore.ops.resolve import Resolved, resolve
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.pages.rendering import segment
from modelstore.state import State


@dataclass(frozen=True, slots=True)
class Found:
    """A version that a page is about, and the line that it is of.

    Attributes:
        resolved: the version.
        state: of its line.
    """

    resolved: Resolved
    state: State

    def manifest(self, context: Context) -> Manifest:
        """Return what it consists of."""
        return context.manifest(self.resolved.model, self.resolved.entry)


def find_model(context: Context, text: str) -> ModelName:
    """Return the line of that name.

    Raises:
        Refused: there is none.
    """
    name = ModelName(text)
    if not is_model(text) or not context.store.registry(name).exists():
        raise Refused(404, f"There is no model “{printable(text)[:80]}” in this store.")
    return name


def find(context: Context, model: str, version: str) -> Found:
    """Return a version: by its number, an alias, a digest or whatever else resolves.

    Raises:
        Refused: there is no such line.
        NotFoundError: it has no such version.
    """
    name = find_model(context, model)
    resolved = resolve(context.store, f"{name}@{version}")
    return Found(resolved, context.store.state(name))


def model_url(model: ModelName) -> str:
    """Return the address of a line's page."""
    return f"/models/{segment(model)}"


def version_url(resolved: Resolved) -> str:
    """Return the address of a version's page."""
    return f"{model_url(resolved.model)}/versions/{segment(resolved.entry.version)}"

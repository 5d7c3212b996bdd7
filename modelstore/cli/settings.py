"""What the options before or after the verb said, and the environment where they said nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import click

from modelstore.names import ModelName, parse_model
from modelstore.ops.resolve import Context
from modelstore.store import Store, find

KEY_FILE = "MSTORE_KEY_FILE"
"""The variable that names the file with the key of sealed remotes."""


@dataclass(slots=True)
class Settings:
    """What the options before or after the verb said.

    Attributes:
        opened: the stores that the command opened so far.
    """

    store: str = ""
    model: str = ""
    lock_timeout: float | None = None
    json: bool = False
    quiet: bool = False
    key_file: str = ""
    opened: list[Store] = field(default_factory=list)

    def root(self) -> Path:
        """Return the directory of ``-C`` or ``MSTORE_STORE``, else the store around this one."""
        place = self.place()
        return Path(place) if place else find(Path.cwd())

    def place(self) -> str:
        """Return what ``-C`` or ``MSTORE_STORE`` said, or ""."""
        return self.store or os.environ.get("MSTORE_STORE", "")

    def open(self) -> Store:
        """Open the store that is looked for from ``-C``, ``MSTORE_STORE`` or the current directory.

        Raises:
            NoStoreError: there is none.
        """
        store = Store(find(Path(self.place() or ".")))
        store.environment = self.environment()
        if self.lock_timeout is not None:
            store.lock_timeout = self.lock_timeout
        self.opened.append(store)
        return store

    def environment(self) -> dict[str, str]:
        """Return the variables that may hold credentials of remotes, with what options said."""
        said = {KEY_FILE: str(Path(self.key_file).absolute())} if self.key_file else {}
        return {**os.environ, **said}

    def context(self) -> Context:
        """Return what fills in the model of a bare ref."""
        return Context(self.model_name(), Path.cwd())

    def model_name(self) -> ModelName | None:
        """Return the model that was named by ``-M`` or ``MSTORE_MODEL``, or None."""
        name = self.model or os.environ.get("MSTORE_MODEL", "")
        return parse_model(name) if name else None


def settings(ctx: click.Context) -> Settings:
    """Return the settings of this run, which all commands of the run share."""
    found = ctx.find_root().ensure_object(Settings)
    if not isinstance(found, Settings):
        raise TypeError("the context holds something else")
    return found

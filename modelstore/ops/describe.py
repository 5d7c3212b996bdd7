"""Versions as plain values, for everything that reports them: one row is the same everywhere."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from modelstore.names import ModelName
from modelstore.state import Entry, State


class Description:
    """Tells about the versions of one model.

    Integers are bytes or counts, times RFC 3339; a version whose files are missing has id None.
    """

    def __init__(self, model: ModelName, state: State) -> None:
        self.model = model
        self.state = state
        versions = state.document["versions"]
        self._names = {values.get("id"): name for name, values in versions.items()}
        self._aliases: dict[str, list[str]] = defaultdict(list)
        for alias, version in sorted(state.aliases.items()):
            self._aliases[version].append(alias)

    def row(self, entry: Entry) -> dict[str, Any]:
        """Return what a list of versions shows of one."""
        version = str(entry.version)
        return {
            "ref": f"{self.model}@{version}",
            "model": str(self.model),
            "version": version,
            "id": entry.id,
            "active": version == self.state.active,
            "aliases": self._aliases.get(version, []),
            "created_at": entry.text("created_at"),
            "message": entry.text("message"),
            "parents": [self._names.get(digest, digest[:12]) for digest in entry.parents],
            "base_model": entry.text("base_model"),
            "training_parameters": entry.mapping("training_parameters"),
            "metrics": entry.mapping("metrics"),
            "sizes": entry.mapping("sizes"),
            "notes": entry.text("notes"),
            "description": entry.text("description"),
        }

    def whole(self, entry: Entry) -> dict[str, Any]:
        """Return everything the registry holds of one version, unknown keys included."""
        known = self.row(entry)
        hidden = {"seq", "generated", "path", "author"}
        other = {k: v for k, v in entry.values.items() if k not in known and k not in hidden}
        return {
            **known,
            "author": entry.text("author"),
            "path": entry.text("path"),
            "parent_ids": list(entry.parents),
            "other": other,
        }

    def model_row(self) -> dict[str, Any]:
        """Return what a list of models shows of this one."""
        return {
            "model": str(self.model),
            "active": self.state.active or None,
            "base_model": self.state.base_model,
            "description": self.state.document.get("description", ""),
            "defaults": self.state.document.get("defaults", {}),
            "aliases": self.state.aliases,
            "changes": self.state.seq,
            "versions": [self.row(entry) for entry in self.state.entries()],
        }

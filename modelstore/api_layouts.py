"""The part of the Python API that is about other tools' layouts: export and import."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from modelstore.errors import UsageError
from modelstore.names import parse_model
from modelstore.ops import export as exporting
from modelstore.ops import import_model as importing
from modelstore.ops.export_plan import ExportOptions
from modelstore.ops.resolve import resolve
from modelstore.store import Store


class LayoutVerbs:
    """What a `ModelStore` does with other tools' layouts."""

    store: Store

    def export(
        self,
        ref: str,
        to: str,
        output: str | PathLike[str],
        **options: Any,
    ) -> exporting.Exported:
        """Write a version in the layout of another tool.

        Args:
            to: "hf-cache", "dir", "gguf-passthrough" or "oci".
            output: the cache, as in `HF_HUB_CACHE`; the directory; the GGUF file or the directory
                for it; the OCI layout.
            options: the further fields of `modelstore.ops.export_plan.ExportOptions`: force, repo_id,
                main, tag, files.

        Raises:
            UsageError: there is no such layout, or an option that it does not know.
            NotFoundError: the version has nothing that such a layout could hold.
            ConflictError: something would be overwritten.
            IntegrityError: a blob is damaged.
        """
        try:
            chosen = ExportOptions(Path(output), **options)
        except TypeError as error:
            raise UsageError(f"export: {error}") from error
        plan = exporting.plan_export(self.store, resolve(self.store, ref), to, chosen)
        return exporting.export(self.store, plan)

    def import_model(
        self,
        source: str | PathLike[str],
        model: str | None = None,
        *,
        message: str = "",
        place: str | PathLike[str] | None = None,
        everything: bool = False,
    ) -> list[importing.Imported]:
        """Make versions of what another tool has on this machine; nothing is downloaded.

        Args:
            source: "hf:owner/name[@revision]", "ollama:name[:tag]", a GGUF file, or a directory of a
                Hugging Face cache.
            model: what gets the versions; a model called after the source if not said.
            message: why; where it is from, if not said.
            place: the Hugging Face cache, or Ollama's directory of models, for the first two.
            everything: every revision that a cache has, oldest first.

        Raises:
            NotFoundError: there is nothing of that name.
            UsageError: it is of a kind that is not imported, or ``place`` is missing.
            IntegrityError: it is damaged.
        """
        text = str(source)
        if place is None and text.startswith((importing.HUB, importing.OLLAMA)):
            raise UsageError(f"where is {text!r}?", "say place: the cache, or Ollama's directory")
        where = Path(place or ".")
        plan = importing.plan_import(
            self.store,
            text,
            importing.Places(where, (where,)),
            model=None if model is None else parse_model(model),
            everything=everything,
        )
        return importing.run_import(self.store, plan, message=message)

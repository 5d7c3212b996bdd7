"""Export: a version in the layout of another tool.

| layout | what it is |
|---|---|
| hf-cache | an entry of the Hugging Face cache, which `from_pretrained` finds without a server |
| dir | a plain directory, byte for byte what was committed |
| gguf-passthrough | the GGUF files, and a Modelfile for Ollama |
| oci | an OCI image layout, in the form of CNCF ModelPack |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelstore.errors import UsageError
from modelstore.ops import export_gguf, export_hub, export_oci
from modelstore.ops.checkout import checkout, plan_checkout
from modelstore.ops.export_plan import ExportOptions, ExportPlan, carry_out, contents
from modelstore.ops.resolve import Resolved
from modelstore.progress import Progress, silent
from modelstore.store import Store

DIRECTORY = "dir"

_PLANS: dict[str, Callable[[Store, Resolved, ExportOptions], ExportPlan]] = {
    export_hub.NAME: export_hub.plan,
    export_gguf.NAME: export_gguf.plan,
    export_oci.NAME: export_oci.plan,
}

LAYOUTS = (export_hub.NAME, DIRECTORY, export_gguf.NAME, export_oci.NAME)
"""The layouts that there are."""

_ONLY = {
    "repo_id": ("--repo-id", export_hub.NAME),
    "main": ("--main", export_hub.NAME),
    "tag": ("--tag", export_oci.NAME),
    "files": ("--files", export_gguf.NAME),
}
"""Options that only one layout knows."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did.

    Attributes:
        resolved: the version.
        to: the layout.
        path: what programs are pointed at.
        written: paths within the version of the files that were written.
        kept: of those that were there already, and right.
        size: bytes of those that were written.
        names: what the version is called there.
        warnings: sentences about what may surprise.
    """

    resolved: Resolved
    to: str
    path: Path
    written: tuple[str, ...]
    kept: tuple[str, ...]
    size: int
    names: tuple[str, ...]
    warnings: tuple[str, ...]


def plan_export(store: Store, resolved: Resolved, to: str, options: ExportOptions) -> ExportPlan:
    """Return what an export would do, and change nothing.

    Args:
        to: one of `LAYOUTS`.

    Raises:
        UsageError: there is no such layout, or an option that it does not know.
        NotFoundError: the version has nothing that such a layout could hold.
        ConflictError: something would be overwritten.
    """
    for name, (option, layout) in _ONLY.items():
        if getattr(options, name) and to != layout:
            raise UsageError(f"{option} is for --to {layout}, not for --to {to}")
    if to in _PLANS:
        return _PLANS[to](store, resolved, options)
    if to != DIRECTORY:
        raise UsageError(f"there is no layout {to!r}", f"say one of {', '.join(LAYOUTS)}")
    done = plan_checkout(store, resolved, output=options.output, force=options.force)
    files = {file.path: file for file in contents(store, resolved).files}
    missing = tuple((files[path], done.path / path) for path in done.written)
    return ExportPlan(resolved, to, done.path, done.path, missing, done.kept, force=options.force)


def export(store: Store, plan: ExportPlan, progress: Progress = silent) -> Exported:
    """Write a version in the layout that a plan is for.

    Raises:
        ConflictError: something is in the way.
        DiskFullError: the disk is full; nothing half written has a name.
        IntegrityError: a blob is damaged.
    """
    if plan.to == DIRECTORY:
        checkout(store, plan.resolved, output=plan.path, force=plan.force, progress=progress)
    else:
        carry_out(store, plan, progress)
    return outcome(plan)


def outcome(plan: ExportPlan) -> Exported:
    """Return what there is to report of a plan that was carried out."""
    return Exported(
        plan.resolved,
        plan.to,
        plan.path,
        plan.written,
        plan.kept,
        plan.size,
        plan.names,
        plan.warnings,
    )

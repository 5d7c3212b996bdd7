"""``mstore export``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click

from modelstore.cli import common, complete, output
from modelstore.cli.memory import keep_freed
from modelstore.errors import UsageError
from modelstore.ops.export import LAYOUTS, Exported, outcome, plan_export
from modelstore.ops.export import export as carry_out
from modelstore.ops.export_plan import ExportOptions
from modelstore.ops.hub_cache import cache_place
from modelstore.ops.resolve import resolve


@click.command()
@click.argument("ref", default="ACTIVE", shell_complete=complete.refs)
@click.option("--to", "to", required=True, type=click.Choice(LAYOUTS), help="The layout.")
@click.option(
    "-o",
    "--output",
    "directory",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Write here; hf-cache: the cache, by default that of HF_HUB_CACHE or HF_HOME.",
)
@click.option("--repo-id", default="", metavar="OWNER/NAME", help="hf-cache: the model's id there.")
@click.option("--main", is_flag=True, help="hf-cache: what is loaded where no revision is named.")
@click.option(
    "--tag", default="", metavar="TAG", help="oci: the image's tag; default: the version."
)
@click.option("--files", multiple=True, metavar="GLOB", help="gguf-passthrough: only what fits.")
@click.option("-f", "--force", is_flag=True, help="Overwrite what is somebody else's.")
@click.option(
    "-n", "--dry-run", is_flag=True, help="Show what would be written, and write nothing."
)
@common.store_options
@common.quiet_option
@common.json_option
@click.pass_context
def export(ctx: click.Context, /, ref: str, to: str, directory: Path | None, **given: Any) -> None:
    """Write a version as Hugging Face, Ollama or an OCI registry have it.

    hf-cache: an entry of the Hugging Face cache. from_pretrained("mstore/MODEL", revision="v1.1")
    finds it there, without a server and without a network.

    dir: a plain directory, byte for byte what was committed.

    gguf-passthrough: the GGUF files of the version, and a Modelfile for Ollama.

    oci: an OCI image layout in the form of CNCF ModelPack.

    Files that are there already, and right, are not written again; versions share theirs.
    """
    chosen = common.settings(ctx)
    keep_freed()
    store = chosen.open()
    resolved = resolve(store, ref, chosen.context())
    options = ExportOptions(
        _place(to, directory),
        force=given["force"],
        repo_id=given["repo_id"],
        main=given["main"],
        tag=given["tag"],
        files=given["files"],
    )
    plan = plan_export(store, resolved, to, options)
    if given["dry_run"]:
        done = outcome(plan)
    else:
        with output.progress(chosen) as progress:
            done = carry_out(store, plan, progress)
    for warning in () if chosen.json else done.warnings:
        output.warn(warning)
    if chosen.json:
        output.emit("export", as_json(done, dry_run=given["dry_run"]))
    elif chosen.quiet:
        output.say(str(done.path))
    else:
        _report(done, dry_run=given["dry_run"])


def _place(to: str, directory: Path | None) -> Path:
    if directory is not None:
        return directory
    if to != LAYOUTS[0]:
        raise UsageError("where to?", f"say it: mstore export REF --to {to} -o PATH")
    return cache_place(os.environ, Path.home())


def as_json(done: Exported, *, dry_run: bool) -> dict[str, object]:
    """Return what an export did, as its JSON says it."""
    return {
        "ref": str(done.resolved),
        "to": done.to,
        "path": str(done.path),
        "dry_run": dry_run,
        "written": list(done.written),
        "kept": list(done.kept),
        "size": done.size,
        "names": list(done.names),
        "warnings": list(done.warnings),
    }


def _report(done: Exported, *, dry_run: bool) -> None:
    wrote = f"{output.count(len(done.written), 'file')}, {output.size(done.size)}"
    same = f"; {output.count(len(done.kept), 'file')} there already" if done.kept else ""
    output.say(f"{done.resolved}: {'would write' if dry_run else 'wrote'} {wrote}{same}")
    output.say(f"  {output.place(done.path)}")
    if not dry_run:
        for line in _next(done):
            output.hint(line)


def _next(done: Exported) -> list[str]:
    """Return how to use what was written."""
    path = shlex.quote(str(done.path))
    if done.to == "hf-cache":
        repo_id, _, revision = done.names[0].rpartition("@")
        usual = cache_place(os.environ, Path.home()).absolute()
        first = f"HF_HUB_CACHE={path} " if done.path != usual else ""
        load = f'from_pretrained("{repo_id}", revision="{revision}")'
        if any(name.endswith("@main") for name in done.names):
            return [
                f"load it with: {first}HF_HUB_OFFLINE=1, {load}; no revision means this one, too"
            ]
        return [f"load it with: {first}HF_HUB_OFFLINE=1, {load}"]
    if done.to == "gguf-passthrough":
        place = done.path if done.path.is_dir() else done.path.parent
        modelfile = shlex.quote(str(place / "Modelfile"))
        return [f"give it to Ollama with: ollama create {done.resolved.model} -f {modelfile}"]
    if done.to == "oci":
        tag = done.names[0]
        return [
            f"send it to a registry with: skopeo copy oci:{path}:{tag} docker://HOST/NAME:{tag}"
        ]
    return []

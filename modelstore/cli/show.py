"""``mstore show`` and ``mstore info``."""

from __future__ import annotations

import sys
from codecs import getincrementaldecoder
from typing import Any

import click

from modelstore.cli import common, complete, output
from modelstore.errors import NotFoundError, UsageError
from modelstore.manifest import FileEntry, Manifest
from modelstore.ops.describe import Description
from modelstore.ops.resolve import Resolved, resolve
from modelstore.store import Store


@click.command()
@click.argument(
    "ref", metavar="REF[:PATH[::TENSOR]]", default="ACTIVE", shell_complete=complete.refs
)
@click.option("--tensors", is_flag=True, help="List every tensor.")
@common.store_options
@common.json_option
@click.pass_context
def show(ctx: click.Context, ref: str, tensors: bool) -> None:
    """Show one version, file or tensor.

    REF:PATH prints the file; REF:PATH::TENSOR, or REF:::TENSOR in any file, describes a tensor.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    name, _, rest = ref.partition(":")
    path, _, tensor = rest.partition("::") if not rest.startswith(":") else ("", "", rest[2:])
    tensor = tensor.removeprefix(":")
    resolved = resolve(store, name or "ACTIVE", chosen.context())
    if tensor:
        _show_tensor(store, resolved, path, tensor, chosen)
    elif path:
        _show_file(store, resolved, path, chosen)
    else:
        _show_version(store, resolved, chosen, tensors)


info = click.Command(
    "info",
    callback=show.callback,
    params=show.params,
    help=f"Show one version (the old word for show).\n\n{show.help}",
)


def _show_version(store: Store, resolved: Resolved, chosen: common.Settings, all_: bool) -> None:
    state = store.state(resolved.model)
    about = Description(resolved.model, state).whole(resolved.entry)
    manifest = store.manifest(resolved.model, resolved.entry) if resolved.id else None
    files = [_file_row(file) for file in manifest.files] if manifest else []
    if chosen.json:
        more = {"tensors": _tensor_rows(manifest)} if manifest and all_ else {}
        output.emit("show", {**about, "files": files, **_provenance(manifest), **more})
        return
    output.notices([state])
    marks = [*(["ACTIVE"] if about["active"] else []), *about["aliases"]]
    output.say(f"{about['ref']}{' (' + ', '.join(marks) + ')' if marks else ''}")
    sizes = about["sizes"]
    output.pairs(
        {
            "id": about["id"] or "missing: its files are not here",
            "base model": about["base_model"],
            "parent": ", ".join(about["parents"]),
            "created": about["created_at"],
            "author": about["author"],
            "message": about["message"],
            "description": about["description"],
            "notes": about["notes"],
            "size": output.size(sizes.get("logical")) if sizes else "",
            "new in store": output.size(sizes.get("stored")) if sizes else "",
            "parameters": _grouped(sizes.get("parameters")),
        },
        indent="  ",
    )
    _section("training parameters", about["training_parameters"])
    _section("metrics", about["metrics"])
    _section("kept from before", {k: str(v) for k, v in about["other"].items()})
    if files:
        output.say("  files")
        output.table(
            [("   ", f["path"], output.size(f["size"]), _tensors(f["tensors"])) for f in files],
            right=(2,),
        )
    if manifest and all_:
        output.table(
            [
                (
                    "   ",
                    t["name"],
                    t["dtype"],
                    "x".join(map(str, t["shape"])),
                    output.size(t["size"]),
                )
                for t in _tensor_rows(manifest)
            ],
            right=(4,),
        )


def _show_file(store: Store, resolved: Resolved, path: str, chosen: common.Settings) -> None:
    file = _file(store, resolved, path)
    if file.format != "opaque" and sys.stdout.isatty() and not chosen.json:
        raise UsageError(
            f"{path!r} holds tensors and this is a terminal",
            f"run: mstore show {resolved}:{path} > FILE",
        )
    if chosen.json:
        spans = [{"blob": s.blob, "size": s.size, "dtype": s.dtype} for s in file.spans]
        output.emit("show-file", {**_file_row(file), "spans": spans})
        return
    pieces = (piece for span in file.spans for piece in store.blobs.blocks(span.blob))
    if sys.stdout.isatty():  # which would obey what it is sent
        decode = getincrementaldecoder("utf-8")("replace").decode
        for piece in pieces:
            output.say_text(decode(bytes(piece)))
        return
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _show_tensor(
    store: Store, resolved: Resolved, path: str, name: str, chosen: common.Settings
) -> None:
    manifest = store.manifest(resolved.model, resolved.entry)
    rows = [
        row for row in _tensor_rows(manifest) if row["name"] == name and path in ("", row["file"])
    ]
    if not rows:
        raise NotFoundError(
            f"{resolved} has no tensor {name!r}", f"list them: mstore show {resolved} --tensors"
        )
    header = store.blobs.header(rows[0]["blob"])
    row = {
        **rows[0],
        "stored": header.stored_size,
        "codec": header.codec,
        "base": header.base,
        "depth": header.depth,
    }
    if chosen.json:
        output.emit("show-tensor", row)
        return
    shown = {**row, "shape": "x".join(map(str, row["shape"])) or "scalar"}
    shown["size"], shown["stored"] = output.size(row["size"]), output.size(row["stored"])
    output.pairs({key: "" if value is None else str(value) for key, value in shown.items()})


def _file(store: Store, resolved: Resolved, path: str) -> FileEntry:
    file = store.manifest(resolved.model, resolved.entry).file(path)
    if file is None:
        raise NotFoundError(
            f"{resolved} has no file {path!r}", f"list them: mstore show {resolved}"
        )
    return file


def _file_row(file: FileEntry) -> dict[str, Any]:
    return {
        "path": file.path,
        "size": file.size,
        "format": file.format,
        "executable": file.executable,
        "tensors": sum(len(span.tensors) for span in file.spans),
        "blake3": file.blake3,
        "sha256": file.sha256,
        "git_sha1": file.git_sha1,
    }


def _tensor_rows(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {
            "name": tensor.name,
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "size": span.size,
            "blob": span.blob,
            "file": file.path,
        }
        for file, span, tensor in manifest.tensors()
    ]


def _provenance(manifest: Manifest | None) -> dict[str, Any]:
    if manifest is None:
        return {}
    return {
        "data": [dict(row) for row in manifest.data],
        "environment": dict(manifest.environment),
        "fingerprints": {
            "schema": manifest.schema_fingerprint,
            "weights": manifest.weights_fingerprint,
            "tokenizer": manifest.tokenizer_fingerprint,
        },
    }


def _grouped(count: object) -> str:
    """Return a number with commas; "" for what is none, or is nothing."""
    return f"{count:,}" if isinstance(count, int) and count else ""


def _section(title: str, values: dict[str, Any]) -> None:
    if values:
        output.say(f"  {title}")
        output.pairs({key: _value(key, value) for key, value in values.items()}, indent="    ")


def _value(key: str, value: object) -> str:
    is_size = key == "model_size" and isinstance(value, int)  # adopted ones may be any text
    return output.size(value) if is_size else output.number(value)


def _tensors(count: int) -> str:
    return output.count(count, "tensor") if count else ""

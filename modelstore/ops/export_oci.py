"""Export as an OCI image layout in the form of CNCF ModelPack: a layer per file, none compressed.

Kubernetes mounts such images, and Docker Model Runner, ORAS, modctl and kit read them. The bytes
follow from the version alone, and the digest of a layer is the SHA-256 of its file.
Formats: github.com/opencontainers/image-spec (image-layout.md, manifest.md), and
github.com/modelpack/model-spec (docs/spec.md, docs/config.md, schema/config-schema.json).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from modelstore.canonical import canonical, parse_mapping
from modelstore.errors import BadNameError, ConflictError, IntegrityError
from modelstore.manifest import FileEntry, Manifest
from modelstore.ops import present
from modelstore.ops.export_plan import (
    ExportOptions,
    ExportPlan,
    Small,
    Sorted,
    contents,
    require_outside,
)
from modelstore.ops.hub_names import is_lfs
from modelstore.ops.resolve import Resolved
from modelstore.reading import read_if_readable
from modelstore.store import Store

NAME = "oci"

_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
_LAYER_TYPE = "application/vnd.cncf.model.{}.v1.raw"
_REF = "org.opencontainers.image.ref.name"
_TITLE = "org.opencontainers.image.title"
_FILEPATH = "org.cncf.model.filepath"

_TAG = re.compile(r"\w[\w.-]{0,127}\Z", re.ASCII)
"""What registries take for a tag: github.com/opencontainers/distribution-spec, spec.md."""

_DOC = re.compile(
    r"(readme|licen[cs]e|notice|copying|use_policy|changelog)|.*\.(md|rst|pdf)\Z", re.I
)
_CODE = (".py", ".sh", ".ipynb", ".js")
_PRECISIONS = {"BF16": "bf16", "F16": "fp16", "F32": "fp32", "F64": "fp64", "I8": "int8"}
_MOST_SAME = 0.9
"""The part of all values that must have one dtype for the model to be said to be of it."""

_MOST_CONFIG = 1 << 20


def plan(store: Store, resolved: Resolved, options: ExportOptions) -> ExportPlan:
    """Return what it takes to have a version in a layout, beside what is in it already.

    Args:
        options: ``output`` is the directory of the layout.

    Raises:
        BadNameError: ``tag`` cannot be one.
        ConflictError: the tag is another image's, or the layout lies in the store, or the directory
            is something else.
        IntegrityError: the layout's index is damaged.
    """
    manifest = contents(store, resolved)
    root = options.output.absolute()
    require_outside(store, root)
    tag = options.tag or str(resolved.entry.version)
    if not _TAG.match(tag):
        raise BadNameError(f"{tag!r} cannot be a tag", "tags look like v1.1 or prod")
    blobs = root / "blobs" / "sha256"
    files = Sorted()
    for file in manifest.files:
        files.add(file, blobs / file.sha256)
    config = canonical(_config(store, resolved, manifest))
    image = canonical(_image(resolved, manifest, config))
    entry = {
        **_descriptor(_MANIFEST_TYPE, image),
        "artifactType": _ARTIFACT_TYPE,
        "annotations": {_REF: tag, _TITLE: str(resolved.model)},
    }
    _index(root, entry, force=options.force)  # what is wrong with it is told before any work
    return ExportPlan(
        resolved,
        NAME,
        root,
        root,
        missing=tuple(files.missing),
        kept=tuple(files.kept),
        small=(
            Small(blobs / _sha256(config), partial(bytes, config)),
            Small(blobs / _sha256(image), partial(bytes, image)),
            Small(root / "oci-layout", partial(bytes, b'{"imageLayoutVersion":"1.0.0"}')),
            Small(root / "index.json", partial(_index, root, entry, force=options.force)),
        ),
        directories=(blobs,),
        names=(tag,),
    )


def _index(root: Path, entry: Mapping[str, Any], *, force: bool) -> bytes:
    """Return the index of a layout with an image in it, in the place of the one of the same tag."""
    path = root / "index.json"
    data = read_if_readable(path)
    if data is None and (root.is_file() or (root.is_dir() and any(_others(root)))):
        raise ConflictError(
            f"'{root}' holds other files, and is no OCI layout", "give a new directory"
        )
    value = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": []}
    if data is not None:
        value = parse_mapping(data, f"'{path}'")
    images = value.get("manifests")
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise IntegrityError(f"'{path}' is no index of an OCI layout", "give another directory")
    tag = entry["annotations"][_REF]
    for image in images:
        if _tag_of(image) == tag and image.get("digest") != entry["digest"] and not force:
            raise ConflictError(
                f"the layout '{root}' has another image with the tag {tag!r}",
                "replace it with -f, or choose another tag: --tag TAG",
            )
    rest = [image for image in images if _tag_of(image) != tag]
    return json.dumps({**value, "manifests": [*rest, entry]}, indent=2).encode("utf-8")


def _others(root: Path) -> list[str]:
    """Return what lies in a directory that an export which was cut short does not leave there."""
    own = {"blobs", "oci-layout"}
    return [
        p.name for p in root.iterdir() if p.name not in own and not p.name.startswith(".mstore-")
    ]


def _tag_of(image: Mapping[str, Any]) -> object:
    annotations = image.get("annotations")
    return annotations.get(_REF) if isinstance(annotations, dict) else None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{_sha256(data)}", "size": len(data)}


def _image(resolved: Resolved, manifest: Manifest, config: bytes) -> dict[str, Any]:
    said = {
        "org.opencontainers.image.created": manifest.created_at,
        _TITLE: str(resolved.model),
        "org.opencontainers.image.version": str(resolved.entry.version),
        "org.opencontainers.image.revision": str(resolved.id or ""),
        "org.opencontainers.image.description": manifest.message,
    }
    return {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "artifactType": _ARTIFACT_TYPE,
        "config": _descriptor(_CONFIG_TYPE, config),
        "layers": [_layer(file) for file in manifest.files],
        "annotations": {key: value for key, value in said.items() if value},
    }


def _layer(file: FileEntry) -> dict[str, Any]:
    return {
        "mediaType": _LAYER_TYPE.format(_kind(file)),
        "digest": f"sha256:{file.sha256}",
        "size": file.size,
        "annotations": {_FILEPATH: file.path, _TITLE: file.path},
    }


def _kind(file: FileEntry) -> str:
    """Return what ModelPack calls the content of a file."""
    name = file.path.rsplit("/", 1)[-1]
    if is_lfs(file):
        return "weight"
    if _DOC.match(name):
        return "doc"
    return "code" if name.lower().endswith(_CODE) else "weight.config"


# --- the description of the model


def _config(store: Store, resolved: Resolved, manifest: Manifest) -> dict[str, Any]:
    own = _own_config(store, resolved, manifest)
    descriptor = {
        "createdAt": manifest.created_at,
        "authors": [manifest.author] if manifest.author else [],
        "family": _text(own.get("model_type")),
        "name": str(resolved.model),
        "version": str(resolved.entry.version),
        "revision": str(resolved.id or ""),
        "description": manifest.message,
    }
    return {
        "descriptor": _filled(descriptor),
        "config": _filled(_technical(manifest, own)),
        "modelfs": {"type": "layers", "diffIds": [f"sha256:{f.sha256}" for f in manifest.files]},
    }


def _technical(manifest: Manifest, own: Mapping[str, Any]) -> dict[str, str]:
    """Return the technical side of a model, as far as it is known; "" where it is not."""
    formats = Counter(f.format for f, _, _ in manifest.tensors())
    named = {"safetensors": "safetensors", "torch": "pytorch", "gguf": "gguf"}
    values: Counter[str] = Counter()
    for _, _, tensor in manifest.tensors():
        values[tensor.dtype] += prod(tensor.shape)
    dtype, most = values.most_common(1)[0] if values else ("", 0)
    main = dtype if values and most >= _MOST_SAME * values.total() else "mixed" if values else ""
    quantised = own.get("quantization_config")
    method = _text(quantised.get("quant_method")) if isinstance(quantised, dict) else ""
    is_packed = dtype not in _PRECISIONS and "gguf" in formats
    return {
        "architecture": "transformer" if own.get("architectures") else "",
        "format": named.get(formats.most_common(1)[0][0], "") if formats else "",
        "paramSize": _scaled(manifest.parameter_count),
        "precision": "" if is_packed else _PRECISIONS.get(main, main.lower()),
        "quantization": method or (dtype.lower() if is_packed else ""),
    }


def _own_config(store: Store, resolved: Resolved, manifest: Manifest) -> Mapping[str, Any]:
    """Return what `config.json` says; {} where there is none that can be understood."""
    file = manifest.file("config.json")
    if file is None or file.size > _MOST_CONFIG:
        return {}
    present.require(store, resolved)
    data = b"".join(store.blobs.read(span.blob, most=span.size) for span in file.spans)
    try:
        return parse_mapping(data, "'config.json'")
    except IntegrityError:
        return {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


def _scaled(count: int) -> str:
    """Return a number of parameters as "1.2B": one digit after the point, as the format wants."""
    for unit, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + letter
    return ""

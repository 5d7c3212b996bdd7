"""What mstore itself left in a version directory that no registry knows.

A crash between placing and registering a version, or a copy of a version directory, leaves a
manifest and generated files there. They are not content.
"""

from __future__ import annotations

import json
from pathlib import Path

from modelstore import manifest
from modelstore.errors import StoreError
from modelstore.hashing import Digest, digest_of
from modelstore.ops.card import MODEL_INFO, README
from modelstore.reading import read_if_readable
from modelstore.store import MANIFEST


def own_files(directory: Path) -> dict[str, Digest]:
    """Return the files in ``directory`` that mstore generated, by name, with their digests.

    Only a manifest of mstore proves that there are any: it is written first.
    """
    data = read_if_readable(directory / MANIFEST)
    if data is None or not manifest.is_manifest(data):
        return {}
    try:
        left = manifest.decode(data)
    except StoreError:
        return {}
    own = {MANIFEST: digest_of(data)}
    readme, info = read_if_readable(directory / README), read_if_readable(directory / MODEL_INFO)
    if readme is not None and left.file(README) is None:
        own[README] = digest_of(readme)
    if info is not None and left.file(MODEL_INFO) is None and _names(info, own[MANIFEST]):
        own[MODEL_INFO] = digest_of(info)
    return own


def _names(info: bytes, digest: Digest) -> bool:
    """Tell whether a `model_info.json` is the one that was generated for this manifest."""
    try:
        value = json.loads(info)
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("id") == digest

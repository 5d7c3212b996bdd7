"""Directories of versions that were made elsewhere: their small files, as a commit writes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.errors import ConflictError
from modelstore.hashing import Digest, digest_of
from modelstore.manifest import Manifest
from modelstore.names import ModelName
from modelstore.ops import card, working
from modelstore.ops.publish import build_aside, is_leftover
from modelstore.ops.resolve import Resolved
from modelstore.reading import read_file
from modelstore.state import Entry, State
from modelstore.store import MANIFEST, Store


class Placing:
    """Puts directories in place, under the store's lock, before the records that name them.

    Args:
        store: the store.
        model: the line.
        after: its state once the records are there.
    """

    def __init__(self, store: Store, model: ModelName, after: State) -> None:
        self._store = store
        self._model = model
        self._after = after

    def check(self, entry: Entry) -> None:
        """Check that a version's directory may be put in place.

        Raises:
            ConflictError: there is one that is somebody else's.
        """
        home = self._home(entry.version)
        if home.exists() and not (_holds(home, entry.id) or is_leftover(home)):
            raise ConflictError(
                f"'{home}' exists, and is not of the version that is to be there",
                "take it over with: mstore adopt; or move it away",
            )

    def put(self, entry: Entry) -> None:
        """See to it that a version has its directory, with the small files that it had elsewhere."""
        home = self._home(entry.version)
        if _holds(home, entry.id):
            return
        if home.exists():
            self._store.blobs.trash().put_directory(home, "leftover")
        manifest = self._store.manifest(self._model, entry)
        small = self._small(str(entry.version), manifest, entry.text("description"))
        expected = {**entry.mapping("generated"), MANIFEST: entry.id}
        own = {file.path for file in manifest.files}
        kept = {n: d for n, d in small.items() if n in own or digest_of(d) == expected.get(n, "")}
        disk.make_dir(home.parent)
        build_aside(home, {**kept, MANIFEST: small[MANIFEST]})

    def rename(self, old: str, entry: Entry) -> dict[str, Any]:
        """Move a version's directory to its new number; return the entry's values to be recorded.

        Files that were generated say the number, so they are generated anew; others stay.
        """
        before, home = self._home(old), self._home(entry.version)
        manifest = self._store.manifest(self._model, entry)
        if before.exists() and not home.exists() and _holds(before, entry.id):
            disk.move_new(before, home)
            working.forget(self._store, before)
        small = self._small(str(entry.version), manifest, entry.text("description"))
        generated = {
            name: str(digest_of(small[name]))
            for name in entry.mapping("generated")
            if name in (card.README, card.MODEL_INFO)
        }
        for name in generated if home.exists() else ():
            file = home / name
            if not file.exists() or digest_of(read_file(file)) == entry.mapping("generated")[name]:
                disk.replace(file, small[name])
        path = f"{Path(os.path.abspath(self._store.root)).name}/{self._model}/{entry.version}"
        return {**entry.values, "generated": generated, "path": path}

    def _small(self, version: str, manifest: Manifest, description: str) -> Mapping[str, bytes]:
        parents = list(self._parents(manifest.parents))
        return card.small_files(self._store, self._model, version, manifest, parents, description)

    def _parents(self, parents: Iterable[Digest]) -> Iterable[Resolved]:
        others = [model for model in self._store.models() if model != self._model]
        for digest in parents:
            own = self._after.with_id(digest)
            if own is not None:
                yield Resolved(self._model, own)
                continue
            found = ((model, self._store.state(model).with_id(digest)) for model in others)
            yield from [Resolved(model, entry) for model, entry in found if entry][:1]

    def _home(self, version: object) -> Path:
        return self._store.version_dir(self._model, version)


def _holds(home: Path, digest: Digest | None) -> bool:
    """Tell whether a directory is that of the version ``digest``."""
    try:
        return digest_of(read_file(home / MANIFEST)) == digest
    except OSError:
        return False

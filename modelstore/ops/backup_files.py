"""The small files of a store, as a backup takes them: registries, journals, what people wrote.

They are split like committed files, and each span becomes a frame that is built on nothing, so that
it is read without a store. Settings go without anything that could be secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.blobs import BytesSource
from modelstore.canonical import line
from modelstore.formats.split import split
from modelstore.hashing import Digest, digest_of
from modelstore.names import ModelName
from modelstore.numeric import BYTES
from modelstore.ops.backup_document import CONFIG, BackupFile, is_known
from modelstore.ops.card import MODEL_INFO, README
from modelstore.ops.elsewhere import key_of
from modelstore.records import read, whole
from modelstore.registry import JOURNAL, VIEW
from modelstore.remotes.base import Remote
from modelstore.state import State
from modelstore.store import Store
from modelstore.view import render

_ROOT = (README, ".gitignore")
_SETTINGS = ("default_model", "last_model")
_REMOTE_SETTINGS = ("url", "sealed")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The registries of a store at one moment, if they were read under its lock.

    Attributes:
        states: of every model.
        journals: the bytes of their journals, whole lines.
    """

    states: Mapping[ModelName, State]
    journals: Mapping[ModelName, bytes]

    def ids(self) -> set[Digest]:
        """Return the manifests of all versions."""
        entries = (entry for state in self.states.values() for entry in state.entries())
        return {entry.id for entry in entries if entry.id is not None}


def snapshot(store: Store) -> Snapshot:
    """Return the registries as they are now.

    Raises:
        IntegrityError: one cannot be read.
    """
    states, journals = {}, {}
    for model in store.models():
        states[model] = store.state(model)
        data = read(store.root / model / JOURNAL) or b""
        journals[model] = data[: whole(data)]
    return Snapshot(states, journals)


class _Named(BytesSource):
    """Bytes with the name of their file, which formats ask for."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


class SmallFiles:
    """The small files of a store.

    Attributes:
        found: what the backup's document says of them.
    """

    def __init__(self, store: Store, seen: Snapshot) -> None:
        self._store = store
        self._spans: dict[Digest, bytes] = {}
        self.found = [self._file(path, data) for path, data in sorted(_contents(store, seen))]

    def blobs(self) -> set[Digest]:
        """Return the blobs that they consist of."""
        return set(self._spans)

    def send(self, remote: Remote, there: Mapping[Digest, int]) -> dict[Digest, int]:
        """Send the blobs that are not there; return the bytes of each frame that was put."""
        waiting = sorted(self._spans.keys() - there.keys())
        if not waiting:
            return {}
        from modelstore.blobs.choice import choose  # these load numpy
        from modelstore.blobs.drafts import Drafts
        from modelstore.blobs.staging import Staging

        sent = {}
        blobs = self._store.blobs
        with Staging(self._store.meta, self._store.lock_timeout) as area:
            drafts = Drafts(area.new_path, blobs.path, lambda _: False, 1, blobs.block_log2)
            for digest in waiting:
                source = BytesSource(self._spans[digest])
                frame = drafts.write(digest, source, BYTES, choose(source, BYTES, ()), 0)
                if remote.put_if_absent(key_of(digest), frame.path):
                    sent[digest] = frame.stored_size
                drafts.drop(frame)
        return sent

    def _file(self, path: str, data: bytes) -> BackupFile:
        view = memoryview(data)
        spans = []
        for span in split(_Named(data, path.rpartition("/")[2])).spans:
            part = bytes(view[span.start : span.stop])
            digest = digest_of(part)
            self._spans[digest] = part
            spans.append((digest, len(part)))
        return BackupFile(path, len(data), digest_of(data), tuple(spans))


def _contents(store: Store, seen: Snapshot) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the bytes of every small file."""
    for model, state in seen.states.items():
        yield f"{model}/{VIEW}", render(state.document)
        yield f"{model}/{JOURNAL}", seen.journals[model]
        for entry in state.entries():
            home = f"{model}/{entry.version}"
            yield from _read(store.root, [f"{home}/{name}" for name in (README, MODEL_INFO)])
    yield from _read(store.root, _ROOT)
    adopted = (store.meta / "adopted").glob("*.json")
    yield from _read(store.root, [path.relative_to(store.root).as_posix() for path in adopted])
    settings = public_settings(store.config())
    if settings:
        yield CONFIG, line(settings).encode("utf-8") + b"\n"


def _read(root: Path, names: list[str] | tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        path = root / name
        with disk.explained(path, "read"):
            if is_known(name) and path.is_file():
                data = read(path)
                if data is not None:
                    yield name, data


def public_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without options of remotes, which could be secret."""
    found = {key: config[key] for key in _SETTINGS if isinstance(config.get(key), str)}
    remotes = config.get("remotes")
    if isinstance(remotes, dict):
        found["remotes"] = {
            str(name): {key: one[key] for key in _REMOTE_SETTINGS if key in one}
            for name, one in remotes.items()
            if isinstance(one, dict)
        }
    return found

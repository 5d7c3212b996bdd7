"""Fetch: what a remote has comes here; no registry of ours changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from modelstore import manifest as manifests
from modelstore.canonical import MAX_SIZE
from modelstore.errors import IntegrityError, NotFoundError
from modelstore.hashing import Digest
from modelstore.manifest import Manifest
from modelstore.names import ModelName
from modelstore.ops import card, tracking
from modelstore.ops.elsewhere import identify
from modelstore.ops.lines import Line, models_at, read_line
from modelstore.ops.remotes import Place
from modelstore.ops.transfer import Brought, Expected, bring
from modelstore.progress import Progress, silent
from modelstore.remotes.base import Remote
from modelstore.state import State
from modelstore.store import Store


@dataclass(frozen=True, slots=True)
class Fetched:
    """What is known of a model at a remote now.

    Attributes:
        line: its registry there.
        new: versions there whose content was not here.
        brought: the frames that came; of a dry run about the bytes that would.
    """

    line: Line
    new: tuple[str, ...]
    brought: Brought

    @property
    def model(self) -> ModelName:
        """The model."""
        return self.line.model


def fetch(
    store: Store,
    place: Place,
    models: Sequence[ModelName] = (),
    progress: Progress = silent,
    *,
    dry_run: bool = False,
) -> list[Fetched]:
    """Bring what a remote has, and note what it says of its models.

    Args:
        models: those that are wanted; () for all.
        dry_run: find out what would come, as far as registries tell, and change nothing.

    Raises:
        NotFoundError: there is no store, or no such model.
        IntegrityError: what the remote gives is damaged, or not what it says.
        RemoteError: it failed; what came stays, and counts the next time.
    """
    identify(place.remote)
    found = []
    for model in models or models_at(place.remote):
        line = read_line(place.remote, model)
        if line is not None:
            found.append(
                _foreseen(store, place, line)
                if dry_run
                else _fetch_line(store, place, line, progress)
            )
        elif models:
            raise NotFoundError(
                f"'{place.remote.shown}' has no model {model!r}", "see what is there: mstore fetch"
            )
    return found


def is_lazy(store: Store, name: str) -> bool:
    """Tell whether the frames at a remote are fetched only when they are needed."""
    return bool(name) and tracking.lazy(store) == name


def _foreseen(store: Store, place: Place, line: Line) -> Fetched:
    new = tuple(version for version, _ in _unknown(store, line))
    come = () if is_lazy(store, place.name) else new
    size = sum(_stored(line.document["versions"][version]) for version in come)
    return Fetched(line, new, Brought(0, size))


def _fetch_line(store: Store, place: Place, line: Line, progress: Progress) -> Fetched:
    if place.name:
        tracking.note(store, place.name, line.model, line.data)
    new = dict(_unknown(store, line))
    ids = sorted(set(new.values()))
    brought = bring(store, place.remote, ids, progress, expected=Expected(most=MAX_SIZE))
    decoded = [_manifest(store, place.remote, line.model, digest) for digest in ids]
    wanted = _small(decoded) if is_lazy(store, place.name) else _all(decoded)
    sizes = _sizes(wanted, line.model)
    total = sum(_stored(values) for values in line.document["versions"].values())
    expected = Expected(sizes, total=total)
    frames = bring(store, place.remote, sizes, progress, expected=expected)
    return Fetched(line, tuple(new), brought.plus(frames))


def _unknown(store: Store, line: Line) -> Iterator[tuple[str, Digest]]:
    """Yield the versions of a line whose content is not here.

    Those that are registered here, and whose manifests are not, came through Git.
    """
    registry = store.registry(line.model)
    ours = {e.id for e in store.state(line.model).entries()} if registry.exists() else set()
    for entry in State(line.document).entries():
        if entry.id is not None and not (entry.id in ours and entry.id in store.blobs):
            yield str(entry.version), entry.id


def _manifest(store: Store, remote: Remote, model: ModelName, digest: Digest) -> Manifest:
    data = store.blobs.read(digest, most=MAX_SIZE)
    return manifests.decode(data, f"manifest {digest[:12]} of {model} at '{remote.shown}'")


def _all(decoded: Iterable[Manifest]) -> Iterator[tuple[Digest, int]]:
    for manifest in decoded:
        for file in manifest.files:
            yield from ((span.blob, span.size) for span in file.spans)


def _small(decoded: Iterable[Manifest]) -> Iterator[tuple[Digest, int]]:
    """Yield the blobs that a version's directory shows though it is not checked out."""
    for manifest in decoded:
        for name in (card.README, card.MODEL_INFO):
            file = manifest.file(name)
            if file is not None:
                yield from ((span.blob, span.size) for span in file.spans)


def _sizes(spans: Iterable[tuple[Digest, int]], model: ModelName) -> Mapping[Digest, int]:
    sizes: dict[Digest, int] = {}
    for digest, size in spans:
        if sizes.setdefault(digest, size) != size:
            raise IntegrityError(f"manifests of {model} contradict each other on blob '{digest}'")
    return sizes


def _stored(values: Mapping[str, object]) -> int:
    """Return about how many bytes a version will come with, as its registry says."""
    sizes = values.get("sizes")
    stored = sizes.get("stored") if isinstance(sizes, dict) else 0
    return stored if isinstance(stored, int) else 0

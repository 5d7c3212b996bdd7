"""A store: one directory of models, opened.

It holds the blobs, the registries and the configuration, and knows where everything lies.
What is done with them is in `modelstore.ops`, one verb a module.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore import disk, locks, moments
from modelstore.canonical import MAX_SIZE, line, parse_mapping
from modelstore.errors import (
    ConflictError,
    IntegrityError,
    NewerFormatError,
    NoStoreError,
    NotFoundError,
)
from modelstore.hashing import Digest, digest_of
from modelstore.names import ModelName, is_model, parse_model
from modelstore.reading import read_file
from modelstore.registry import JOURNAL, VIEW, Registry
from modelstore.state import Change, Entry, State

if TYPE_CHECKING:
    from modelstore.blobs import BlobStore
    from modelstore.manifest import Manifest

META = ".mstore"
FORMAT = 1
"""The layout of docs/format.md."""

FEATURES: frozenset[str] = frozenset()
"""Mandatory features this mstore knows; a store that names another one is refused."""

MANIFEST = "manifest.json"

_GITIGNORE = """\
# The small files of a store may be kept in Git, the weights never.
*
!*/
!.gitignore
!README.md
!model_registry.json
!journal.jsonl
!manifest.json
!model_info.json
/.mstore/
"""
_DIRECTORIES = ("tmp", "refs", "trash", "quarantine", "adopted", "locks", "runs", "checkouts")


class Store:
    """A directory of models and their versions.

    Args:
        root: the directory that holds `.mstore` and one directory per model.

    Raises:
        NoStoreError: there is no store at ``root``.
        NewerFormatError: it was made by a newer mstore.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.meta = self.root / META
        if not is_store(self.root):
            raise _no_store(self.root)
        self._check_format()
        self.lock_timeout = locks.DEFAULT_TIMEOUT
        self.environment: Mapping[str, str] = {}
        """Variables that may hold credentials of remotes, as in `os.environ`."""
        self.notices: list[str] = []
        """What the changes made through this object found in place of the views; see `State`."""

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    @cached_property
    def blobs(self) -> BlobStore:
        """The frames of the store.

        Loaded when first used, as manifests are: together they are a third of the start-up of
        `mstore log`, which reads neither.
        """
        from modelstore.blobs import BlobStore

        return BlobStore(self.meta, lock_timeout=self.lock_timeout)

    # --- models and versions

    def models(self) -> list[ModelName]:
        """Return the models of the store, sorted by name."""
        names = {
            path.parent.name for name in (VIEW, JOURNAL) for path in self.root.glob(f"*/{name}")
        }
        if (self.meta / "refs").is_dir():
            names |= {path.name for path in (self.meta / "refs").iterdir()}
        models = [ModelName(name) for name in sorted(names) if is_model(name)]
        return [model for model in models if self.registry(model).exists()]

    def registry(self, model: ModelName) -> Registry:
        """Return the registry of ``model``, which need not exist yet."""
        return Registry(model, self.root / model, self.meta / "refs" / model, self.meta / "adopted")

    def state(self, model: ModelName) -> State:
        """Return the newest state of ``model``; see `Registry.state`."""
        return self.registry(model).state()

    def change(
        self,
        model: ModelName,
        decide: Callable[[State], Change],
        at: str = "",
        *,
        adopting: bool = False,
    ) -> State:
        """Make one change to the registry of ``model`` under the store's lock; see `Registry`."""
        with self.lock():
            after = self.registry(model).change(decide, at or now(), adopting=adopting)
        if after.notice and not adopting:
            self.notices.append(after.notice)
        return after

    def bring_up(self, model: ModelName) -> None:
        """Let the view of ``model`` say what its records do, if a crash kept it from that."""
        if self.registry(model).lags():
            with self.lock():
                self.registry(model).bring_up()

    def version_dir(self, model: ModelName, version: object) -> Path:
        """Return the directory of a version, hydrated or not."""
        return self.root / model / str(version)

    def manifest(self, model: ModelName, entry: Entry) -> Manifest:
        """Return the manifest of a version.

        Raises:
            NotFoundError: the version is registered, but its content never was here.
            IntegrityError: the manifest is damaged.
        """
        name = f"{model}@{entry.version}"
        if entry.id is None:
            raise NotFoundError(
                f"{name} is registered but its files are missing",
                f"put them back into {self.version_dir(model, entry.version)} and run: mstore adopt",
            )
        from modelstore.manifest import decode

        data = self._manifest_bytes(model, entry, entry.id)
        return decode(data, f"manifest of {name}")

    def _manifest_bytes(self, model: ModelName, entry: Entry, digest: Digest) -> bytes:
        path = self.version_dir(model, entry.version) / MANIFEST
        if digest in self.blobs or self.blobs.trash().find(digest) is not None:
            try:
                return self.blobs.read(digest, most=MAX_SIZE)
            except IntegrityError:
                with suppress(OSError):  # the directory has the same bytes; their digest proves it
                    copy = _read_small(path)
                    if digest_of(copy) == digest:
                        return copy
                raise
        try:
            data = _read_small(path)
        except OSError as error:
            raise NotFoundError(
                f"the manifest of {model}@{entry.version} is not here",
                f"copy {META} from the store that this one was cloned from",
            ) from error
        if digest_of(data) != digest:
            raise IntegrityError(
                f"'{path}' is not the manifest it should be", "run: mstore fsck --full"
            )
        return data

    # --- writing

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store's one lock, under which everything is published and swept."""
        self.prepare()
        with locks.locked(locks.store_lock(self.meta), timeout=self.lock_timeout):
            yield

    def prepare(self) -> None:
        """Make `.mstore` complete; a fresh Git clone of the small files comes without it."""
        wanted = [self.meta / "blobs", *(self.meta / name for name in _DIRECTORIES)]
        if not ((self.meta / "format.json").is_file() and all(map(Path.is_dir, wanted))):
            _create_meta(self.meta)

    # --- configuration

    def config(self) -> dict[str, Any]:
        """Return the store's settings: default_model, last_model."""
        path = self.meta / "config.json"
        try:
            return parse_mapping(read_file(path), "config.json")
        except OSError:
            return {}
        except IntegrityError:  # it only fills in what was not said, so it must not stop anything
            notice = f"'{path}' is damaged and not used; write it anew with: mstore fsck --repair"
            if notice not in self.notices:
                self.notices.append(notice)
            return {}

    def configure(self, values: Mapping[str, Any]) -> None:
        """Change some of the store's settings under the store's lock; "" removes one."""
        with self.lock():
            before = self.config()
            after = {k: v for k, v in {**before, **values}.items() if v != ""}
            if after != before:
                disk.replace(self.meta / "config.json", line(after).encode("utf-8") + b"\n")

    def _check_format(self) -> None:
        path = self.meta / "format.json"
        try:
            data = read_file(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk.explain(error, path, "read") from error
        try:
            value = parse_mapping(data, f"'{path}'")
        except IntegrityError as error:
            raise IntegrityError(
                error.message,
                f"if no newer one made the store: rm '{path}' && mstore fsck --repair",
            ) from error
        features = value.get("features", [])
        if not isinstance(features, list):
            raise IntegrityError(f"'{path}' is malformed: its features are no list")
        unknown = {str(feature) for feature in features} - FEATURES
        if value.get("format") != FORMAT or unknown:
            needs = f"mstore {value['mstore']}" if value.get("mstore") else "a newer mstore"
            more = f" with {', '.join(sorted(unknown))}" if unknown else ""
            raise NewerFormatError(
                f"'{self.root}' has format {value.get('format')!r}{more}; it needs {needs}",
                "pip install -U mstore",
            )


def is_store(root: Path) -> bool:
    """Tell whether ``root`` is a store, if only a Git clone of one's small files."""
    if (root / META).is_dir():
        return True
    if not root.is_dir():
        return False
    if any(_is_view(path) for path in root.glob(f"*/{VIEW}")):
        return True
    return any(_begins(path, "record") for path in root.glob(f"*/{JOURNAL}"))


def create(root: Path) -> Store:
    """Make ``root`` a store; one that is there already is completed and returned.

    Raises:
        ConflictError: ``root`` lies within another store.
    """
    outer = next((parent for parent in _absolute(root).parents if (parent / META).is_dir()), None)
    if outer is not None:
        raise ConflictError(f"'{root}' lies within the store '{outer}'", f"use: mstore -C {outer}")
    disk.make_dir(root)
    _create_meta(root / META)
    if not (root / ".gitignore").exists():
        disk.replace(root / ".gitignore", _GITIGNORE.encode("utf-8"))
    return Store(root)


def find(start: Path) -> Path:
    """Return the store that ``start`` lies in, or that lies beside or above it as `tuned_models`.

    Raises:
        NoStoreError: there is none.
    """
    start = _absolute(start)
    if not start.exists():  # a mistyped name must not find the store beside it
        raise NoStoreError(f"there is no directory '{start}'", f"make a store: mstore init {start}")
    places = [start, *start.parents]
    for place in places:
        if (place / META).is_dir():
            return place
    for place in places:
        for candidate in (place, place / "tuned_models"):
            if is_store(candidate):
                return candidate
    raise _no_store(*places)


def _absolute(path: Path) -> Path:
    """Return a path whose parents are the directories above it, which `..` would hide."""
    return path.resolve() if ".." in path.parts else path.absolute()


def now() -> str:
    """Return the time as the store writes it: RFC 3339, UTC, whole seconds."""
    return moments.rfc3339(moments.from_seconds(int(time.time())))


def model_of_path(store: Store, path: Path) -> tuple[ModelName, str] | None:
    """Return the model, and the name below it or "", if ``path`` lies within one of the store."""
    try:
        parts = path.resolve().relative_to(store.root.resolve()).parts
    except ValueError:
        return None
    if not parts or parts[0] == META:
        return None
    try:
        model = parse_model(parts[0])
    except ValueError:
        return None
    return model, parts[1] if len(parts) > 1 else ""


def _create_meta(meta: Path) -> None:
    from modelstore.blobs import BlobStore

    BlobStore(meta).create()
    disk.make_dirs_in(meta, _DIRECTORIES, sync=False)  # the sync that names format.json is theirs
    for lock in (locks.store_lock(meta), locks.gc_lock(meta)):
        locks.make(lock)  # so that a full disk has them, too
    if not (meta / "format.json").exists():
        disk.replace(meta / "format.json", format_text())


def format_text() -> bytes:
    """Return what `format.json` holds in every store of this format."""
    value = {"format": FORMAT, "features": sorted(FEATURES), "mstore": "0.1"}
    return line(value).encode("utf-8") + b"\n"


def _read_small(path: Path) -> bytes:
    """Return the bytes of a file, cut where it is longer than any that mstore wrote."""
    return read_file(path, MAX_SIZE + 1)


def _is_view(path: Path) -> bool:
    return _begins(path, "registry")


def _begins(path: Path, schema: str) -> bool:
    """Tell whether a file begins with a schema of mstore's, as of "registry" or "record"."""
    try:
        return f'"schema":"mstore/{schema}/'.encode() in read_file(path, 256).replace(b" ", b"")
    except OSError:
        return False


def _no_store(*places: Path) -> NoStoreError:
    """Return the error that says what there is instead, at or above the first of ``places``."""
    for place in places:
        for candidate in (place, place / "tuned_models"):
            if any(not _is_view(path) for path in candidate.glob(f"*/{VIEW}")):
                return NoStoreError(
                    f"'{candidate}' has registries that mstore did not make",
                    f"mstore adopt {candidate}",
                )
    return NoStoreError(
        f"there is no store at or above '{places[0]}'", "make one with: mstore init"
    )

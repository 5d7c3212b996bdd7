"""What a directory of models holds that no mstore made, and what adopting it would do.

Only reads; the directory need not be a store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from modelstore import disk, moments
from modelstore.errors import ConflictError, NotFoundError, StoreError
from modelstore.names import ModelName, Version, parse_model
from modelstore.ops.absent import Presence
from modelstore.ops.adopt_plan import AdoptPlan, Ignored, ModelPlan, VersionPlan
from modelstore.ops.card import MODEL_INFO
from modelstore.ops.edits import Edits, read_edits
from modelstore.ops.foreign import KEPT, Foreign, read_json, read_registry, version_of
from modelstore.ops.foreign_entry import Told, entry_values, told
from modelstore.ops.resolve import Resolved
from modelstore.ops.tree import Found, Tree, walk
from modelstore.reading import read_file
from modelstore.registry import VIEW, Registry
from modelstore.state import Entry, State
from modelstore.store import META, Store, is_store

_WEIGHTS = frozenset({
    ".bin", ".safetensors", ".pt", ".pth", ".gguf", ".ggml", ".ckpt", ".h5", ".onnx", ".npz",
    ".msgpack", ".tflite", ".keras", ".pkl",
})  # fmt: skip
_NO_WEIGHTS = frozenset({"training_args.bin"})
_LFS_POINTER = b"version https://git-lfs"
_LFS_POINTER_SIZE = 1024


def plan_adopt(root: Path, *, follow_symlinks: bool = False) -> AdoptPlan:
    """Return what adopting ``root`` would do; changes nothing.

    Raises:
        NotFoundError: it is no directory, or holds neither models nor a store.
        ConflictError: it lies within a store, or is one model instead of a directory of models.
        NewerFormatError: it is a store of a newer mstore.
    """
    root = root.absolute()
    _check_root(root)
    if is_store(root):
        Store(root)  # refuses a newer format
    survey = _Survey(root, follow_symlinks)
    models = tuple(survey.models())
    if not models and not is_store(root):
        raise NotFoundError(f"'{root}' holds no models", f"make a store with: mstore init {root}")
    return AdoptPlan(root, models, tuple(survey.ignored), disk.free_space(root), follow_symlinks)


def _check_root(root: Path) -> None:
    if not root.is_dir():
        raise NotFoundError(f"there is no directory '{root}'", "mstore adopt DIR")
    outer = next((parent for parent in root.parents if (parent / META).is_dir()), None)
    if outer is not None:
        raise ConflictError(f"'{root}' lies within the store '{outer}'", f"mstore adopt {outer}")
    names = [path.name for path in _directories(root)]
    if (root / VIEW).is_file() or (names and all(map(version_of, names))):
        raise ConflictError(
            f"'{root}' is one model, not a directory of models", f"mstore adopt {root.parent}"
        )


class _Survey:
    """Looks through the directories, and notes those that it leaves alone."""

    def __init__(self, root: Path, follow_symlinks: bool) -> None:
        self._root = root
        self._follow = follow_symlinks
        self.ignored: list[Ignored] = []

    def models(self) -> Iterator[ModelPlan]:
        """Yield a plan for each directory that is a model."""
        for directory in _directories(self._root):
            if not (directory / VIEW).is_file() and not any(_versions_in(directory)):
                self._leave(directory, "it is no model: it has no registry and no versions")
                continue
            if directory.is_symlink():
                self._leave(directory, "it is a symlink")
                continue
            try:
                model = parse_model(directory.name)
            except ValueError as error:
                self._leave(directory, str(error))
                continue
            plan = self._model(model, directory)
            if plan.versions or plan.registry != "none":
                yield plan

    def _model(self, model: ModelName, directory: Path) -> ModelPlan:
        meta = self._root / META
        registry = Registry(model, directory, meta / "refs" / model, meta / "adopted")
        if registry.exists():
            return self._again(registry)
        view = registry.view()
        said = read_registry(view, f"{model}/{VIEW}", model) if view is not None else None
        kind = "none" if view is None else "corrupt" if said is None else "foreign"
        return self._first_time(model, kind, said or Foreign())

    # --- a registry that mstore did not make, or none

    def _first_time(self, model: ModelName, kind: str, said: Foreign) -> ModelPlan:
        directories = self._directories_of(model, said.versions)
        plans = []
        for version in sorted({*said.versions, *directories}):
            plan = self._version(model, version, said.versions.get(version), directories)
            if version not in said.versions and plan.missing and not plan.problem:
                self._leave(directories[version], "no registry lists it and it holds no weights")
                continue
            plans.append(plan)
        values, active, remarks = dict(said.values), "", list(said.remarks)
        if kind == "corrupt":
            remarks.append(
                f"{model}/{VIEW} cannot be read; it is kept in {META}/adopted/, "
                "and versions are found by their directories"
            )
        found = next((plan for plan in plans if plan.version == said.active), None)
        if found is not None:
            active = str(found.version)
        elif said.active is not None:
            values[KEPT] = {**values.get(KEPT, {}), "active_version": str(said.active)}
            remarks.append(f"{model}/{VIEW} says {said.active} is active, which does not exist")
        return ModelPlan(model, kind, tuple(plans), active, values, tuple(remarks))

    def _version(
        self,
        model: ModelName,
        version: Version,
        values: Mapping[str, Any] | None,
        directories: Mapping[Version, Path],
    ) -> VersionPlan:
        directory = directories.get(version)
        if directory is not None and _is_canonical(directory.name):
            version = replace(version, text=directory.name)
        path = self._path(model, version, directory, (values or {}).get("path"))
        listed = entry_values(values or {}, path)
        return self._with_files(version, directory, listed, told(values or {}))

    # --- a registry of ours

    def _again(self, registry: Registry) -> ModelPlan:
        """Plan for what was put there since: files of versions that lack them, new directories."""
        model, state = registry.model, registry.state()
        edits = read_edits(registry, state)
        plans = [*self._lost(model, state), *self._added(model, state, edits)]
        plans.sort(key=lambda plan: plan.version)
        found = {plan.version for plan in plans}
        remarks = [
            f"the edited {model}/{VIEW} lists {version}, of which there are no files"
            for version in edits.listed
            if version not in found
        ]
        if state.newest_stored() and not registry.has_records() and not plans:
            remarks.append(f"the content of {model} is neither in the store nor in its directories")
        remarks += edits.remarks
        ahead = registry.ahead()
        if ahead:
            remarks.append(f"{ahead} changes of {model} are in its journal only, as after git pull")
        return ModelPlan(
            model, "mstore", tuple(plans), remarks=tuple(remarks), edits=edits, ahead=ahead
        )

    def _added(self, model: ModelName, state: State, edits: Edits) -> Iterator[VersionPlan]:
        """Yield a plan for each directory of a version that is new, or was listed as missing."""
        known = {entry.version: entry for entry in state.entries()}
        listed = {v: e.values if e.id else _original(e) for v, e in known.items()}
        directories = self._directories_of(model, listed)
        for version, directory in sorted(directories.items()):
            entry = known.get(version)
            if entry is not None and entry.id is not None:
                continue
            if version in state.removed():
                self._leave(directory, f"{model}@{version} was removed")
                continue
            if entry is None:
                plan = self._version(model, version, edits.new.get(version), directories)
            else:
                plan = self._returned(model, entry, directory, edits)
            if not plan.missing or plan.problem:
                yield plan

    def _returned(
        self, model: ModelName, entry: Entry, directory: Path, edits: Edits
    ) -> VersionPlan:
        """Return the plan for a version that was listed as missing and has a directory now."""
        said = {**_original(entry), **edits.versions.get(str(entry.version), {})}
        path = self._path(model, entry.version, directory, entry.values.get("path"))
        values = {**entry.values, "path": path}
        return self._with_files(entry.version, directory, values, told(said))

    def _lost(self, model: ModelName, state: State) -> Iterator[VersionPlan]:
        """Yield a plan for each version whose content the store has lost and a directory holds."""
        presence = Presence(Store(self._root))
        for entry in state.entries():
            absent = presence.absent(Resolved(model, entry))
            if absent is None:
                continue
            there = absent.directory
            files = tuple(Found(f.path, there / f.path, f.size, False) for f in absent.files)
            tree = Tree(files, ())
            version = entry.version
            yield VersionPlan(version, there, tree, entry.values, Told(), lost=absent.blobs)

    # --- files

    def _path(
        self, model: ModelName, version: Version, directory: Path | None, said: object
    ) -> str:
        """Return how the registry spells the path of a directory: as it did, if that is the one."""
        name = directory.name if directory is not None else str(version)
        if isinstance(said, str) and PurePosixPath(said).parts[-2:] == (model, name):
            return said
        return f"{self._root.name}/{model}/{name}"

    def _directories_of(
        self, model: ModelName, listed: Mapping[Version, Mapping[str, Any]]
    ) -> dict[Version, Path]:
        """Return the directory of each version that has one."""
        home = self._root / model
        found: dict[Version, Path] = {}
        rest = []
        for directory in sorted(_directories(home), key=lambda d: not _is_canonical(d.name)):
            version = version_of(directory.name)
            if version is None:
                rest.append(directory)
            elif version in found:
                if _named_directory(home, listed.get(version, {}).get("path")) == directory:
                    continue  # it was adopted where it is, beside the small files of ours
                self._leave(directory, f"it is {found[version].name} by another name")
            else:
                found[version] = directory
        for version, values in listed.items():
            named = _named_directory(home, values.get("path"))
            if version not in found and named in rest:
                rest.remove(named)
                found[version] = named
        for directory in rest:
            self._leave(directory, "it is no version")
        return found

    def _with_files(
        self, version: Version, directory: Path | None, values: Mapping[str, Any], said: Told
    ) -> VersionPlan:
        nothing = VersionPlan(version, directory, Tree((), ()), values, said)
        if directory is None:
            return nothing
        if directory.is_symlink():
            return replace(nothing, problem=f"'{directory}' is a symlink; put the directory there")
        try:
            tree = walk(directory, follow_symlinks=self._follow)
        except StoreError as error:
            return replace(nothing, problem=error.message)
        weights = [file for file in tree.files if _is_weights(file)]
        if not weights:
            return nothing
        info = read_json(_read(directory / MODEL_INFO) or b"")
        if isinstance(info, dict):
            said = said.over(told(info))
        if not said.created_at:
            said = replace(said, created_at=_newest(weights))
        return VersionPlan(version, directory, tree, values, said)

    def _leave(self, directory: Path, why: str) -> None:
        if not any(ignored.path == directory for ignored in self.ignored):
            self.ignored.append(Ignored(directory, why))


def _original(entry: Entry) -> dict[str, Any]:
    """Return what the foreign registry said of a version that is listed and missing."""
    return {**entry.values, **entry.mapping(KEPT)}


def _directories(root: Path) -> list[Path]:
    with disk.explained(root, "read"):
        found = [path for path in root.iterdir() if path.name[0] != "." and path.is_dir()]
    return sorted(found)


def _versions_in(directory: Path) -> Iterator[Path]:
    return (path for path in _directories(directory) if version_of(path.name) is not None)


def _is_canonical(name: str) -> bool:
    version = version_of(name)
    return version is not None and version.text == name


def _named_directory(home: Path, path: Any) -> Path | None:
    """Return the directory directly in ``home`` that a registry's ``path`` names, or None."""
    if not isinstance(path, str) or not path or "\0" in path:
        return None
    for base in (home.parent.parent, home.parent, home):
        place = (base / path).resolve()
        if place.parent == home.resolve() and place.is_dir():
            return home / place.name
    return None


def _is_weights(file: Found) -> bool:
    name = file.path.rsplit("/", 1)[-1].lower()
    if Path(name).suffix not in _WEIGHTS or name in _NO_WEIGHTS or not file.size:
        return False
    if file.size > _LFS_POINTER_SIZE:
        return True
    return not (_read(file.source) or b"").startswith(_LFS_POINTER)


def _newest(files: list[Found]) -> str:
    """Return when the newest of ``files`` was written, whole seconds, UTC."""
    seconds = max(int(file.source.stat().st_mtime) for file in files)
    return moments.rfc3339(moments.from_seconds(seconds))


def _read(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise disk.explain(error, path, "read") from error

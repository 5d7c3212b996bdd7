"""What a training run will do, settled before any time is spent.

A mistake in the data, the base or the options is told within a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelstore.errors import ConflictError, IntegrityError, StoreError
from modelstore.names import ModelName, parse_model
from modelstore.ops.resolve import Resolved, resolve
from modelstore.store import Store
from modelstore.training import hub
from modelstore.training.base import digest_of_base, digest_of_files, open_base
from modelstore.training.data import Data, DataFile, load_data
from modelstore.training.estimate import Estimate
from modelstore.training.options import TrainOptions
from modelstore.training.start import Start, find_start

_STACK = ("torch", "transformers", "accelerate", "trl", "peft", "datasets")
"""What `mstore[train]` installs and every run needs."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for, beside the options.

    Attributes:
        model: the line that gets the version.
        data: files to learn from.
        evaluation: files to evaluate on.
        split: instead of those, the share of the rows that is set aside for it.
        source: a ref of the version to start from, or "".
        base: what else to start from, as `modelstore.training.start` understands it, or "".
        ollama: directories that Ollama keeps its models in.
    """

    model: ModelName
    data: tuple[Path, ...]
    evaluation: tuple[Path, ...] = ()
    split: float = 0.0
    source: str = ""
    base: str = ""
    ollama: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that could begin.

    Attributes:
        model: the line that gets the version.
        base: what it starts from, as the user spells it: a full ref, a directory, a GGUF file, a
            name of Ollama's, or an id on the Hub.
        version: the version it starts from, or None.
        directory: the directory it starts from, or None.
        data: the rows.
        options: how to train.
        gguf: the GGUF file it starts from, or None.
        hub: the id of the model that it starts from and that is to be downloaded, or "".
        split: the share of the rows that was set aside for evaluation.
        preset: the preset that the options begin with, or "".
        sources: by option where it came from: "preset", "line", "file", "--set" or "flag".
        estimate: what it will take, where that was asked for.
    """

    model: ModelName
    base: str
    version: Resolved | None
    directory: Path | None
    data: Data
    options: TrainOptions
    gguf: Path | None = None
    hub: str = ""
    split: float = 0.0
    preset: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    estimate: Estimate | None = None

    @property
    def start(self) -> Start:
        """What it starts from."""
        return Start(self.base, self.version, self.directory, self.gguf, self.hub)


def plan(
    store: Store,
    model: ModelName,
    data_files: Sequence[Path],
    options: TrainOptions,
    *,
    source: str = "",
    base: str = "",
) -> Plan:
    """Return the plan of a run on ``data_files``, as `planned` does."""
    return planned(store, Request(model, tuple(data_files), source=source, base=base), options)


def planned(store: Store, request: Request, options: TrainOptions) -> Plan:
    """Read the data and find out what to start from.

    Raises:
        StoreError: the training packages are not installed.
        UsageError: the data is wrong, both a ref and a base are given, or there is neither.
        NotFoundError: the ref, the directory or a data file does not exist.
    """
    _check_installed()
    start = find_start(store, request.model, request.source, request.base, request.ollama)
    data = load_data(
        request.data, evaluation=request.evaluation, split=request.split, seed=options.seed
    )
    return from_start(request.model, start, data, options, request.split)


def from_start(
    model: ModelName, start: Start, data: Data, options: TrainOptions, split: float
) -> Plan:
    """Return the plan of a run that begins at ``start``."""
    return Plan(
        model=model,
        base=start.name,
        version=start.version,
        directory=start.directory,
        data=data,
        options=options,
        gguf=start.gguf,
        hub=start.hub,
        split=split,
    )


def _check_installed() -> None:
    missing = [name for name in _STACK if find_spec(name) is None]
    if missing:
        raise StoreError(
            f"training needs packages that are not installed: {', '.join(missing)}",
            'pip install "mstore[train]"',
        )


def downloaded(plan: Plan) -> Plan:
    """Return the plan with its base on this machine, in ``directory`` where it was on the Hub.

    Raises:
        RemoteError: it cannot be had.
    """
    if not plan.hub:
        return plan
    return replace(plan, directory=hub.download(plan.hub), hub="")


# --- as JSON, so that a run can be continued by another process


def plan_value(plan: Plan) -> dict[str, Any]:
    """Return the plan as canonical JSON can hold it: floats are texts, paths are absolute."""
    version = plan.version
    return {
        "model": str(plan.model),
        "base": plan.base,
        "version": str(version) if version else "",
        "version_id": (version.id or "") if version else "",
        "directory": _absolute(plan.directory),
        "gguf": _absolute(plan.gguf),
        "hub": plan.hub,
        "base_digest": _base_digest(plan),
        "data": [_file_value(file) for file in plan.data.files],
        "evaluation": [_file_value(file) for file in plan.data.evaluation_files],
        "split": repr(plan.split),
        "options": _texts(asdict(plan.options)),
        "preset": plan.preset,
        "sources": dict(plan.sources),
        "estimate": _texts(asdict(plan.estimate)) if plan.estimate else {},
    }


def plan_from(store: Store, value: Mapping[str, Any]) -> Plan:
    """Return the plan that `plan_value` returned ``value`` of, with its data read again.

    Raises:
        ConflictError: the base or a data file is not what it was.
        NotFoundError: one of them is gone.
        IntegrityError: ``value`` is no plan.
    """
    _check_installed()
    try:
        plan = _plan_from(store, value)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise IntegrityError(f"this is no plan of a run: {error!r}") from error
    if _base_digest(plan) != value["base_digest"]:
        raise _changed(f"the base '{plan.base}'")
    return plan


def _plan_from(store: Store, value: Mapping[str, Any]) -> Plan:
    options = _values(TrainOptions, value["options"])
    split = float(value["split"])
    return Plan(
        model=parse_model(value["model"]),
        base=value["base"],
        version=_version(store, value["version"], value["version_id"]),
        directory=Path(value["directory"]) if value["directory"] else None,
        data=_data(value["data"], value["evaluation"], split, options.seed),
        options=options,
        gguf=Path(value["gguf"]) if value["gguf"] else None,
        hub=value["hub"],
        split=split,
        preset=value["preset"],
        sources=value["sources"],
        estimate=_values(Estimate, value["estimate"]) if value["estimate"] else None,
    )


def _version(store: Store, name: str, version_id: str) -> Resolved | None:
    if not name:
        return None
    version = resolve(store, name)
    if (version.id or "") != version_id:
        raise _changed(f"the version {name}")
    return version


def _data(
    files: Sequence[Mapping[str, Any]],
    evaluation: Sequence[Mapping[str, Any]],
    split: float,
    seed: int,
) -> Data:
    data = load_data(
        [Path(file["place"]) for file in files],
        evaluation=[Path(file["place"]) for file in evaluation],
        split=split,
        seed=seed,
    )
    return replace(
        data,
        files=tuple(map(_same, data.files, files)),
        evaluation_files=tuple(map(_same, data.evaluation_files, evaluation)),
    )


def _same(file: DataFile, recorded: Mapping[str, Any]) -> DataFile:
    """Return the file under the path that the user gave, if it is the one that was recorded."""
    if file.blake3 != recorded["blake3"]:
        raise _changed(f"the data file '{file.path}'")
    return replace(file, path=recorded["path"])


def _file_value(file: DataFile) -> dict[str, Any]:
    return {**asdict(file), "place": _absolute(Path(file.path))}


def _absolute(path: Path | None) -> str:
    return "" if path is None else str(path.absolute())


def _base_digest(plan: Plan) -> str:
    """Return what the base is known by; a version has its id for that."""
    if plan.gguf is not None:
        return digest_of_files([plan.gguf])
    return digest_of_base(open_base(plan.directory)) if plan.directory is not None else ""


def _texts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values without those that are None, and with floats as texts."""
    return {
        name: repr(value) if isinstance(value, float) else value
        for name, value in values.items()
        if value is not None
    }


def _values(kind: type[Any], texts: Mapping[str, Any]) -> Any:
    """Return what `_texts` made texts of."""
    floats = {field.name for field in fields(kind) if "float" in str(field.type)}
    return kind(**{n: float(value) if n in floats else value for n, value in texts.items()})


def _changed(what: str) -> ConflictError:
    return ConflictError(
        f"{what} is not what it was when the run began",
        "put it back as it was, or begin anew: mstore train --discard RUN",
    )

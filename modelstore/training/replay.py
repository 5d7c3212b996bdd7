"""Training a version again, from what its manifest says, to see whether the same comes out.

On a CPU, with the same packages and as many threads, it should, to the bit. Nothing is committed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from modelstore import disk, moments
from modelstore.errors import ConflictError, NotFoundError, UsageError
from modelstore.manifest import Manifest, Scalar, from_scalars
from modelstore.ops.adapter import DIRECTORY
from modelstore.ops.place import RUNS
from modelstore.ops.read import tensors_by_name
from modelstore.ops.resolve import Resolved
from modelstore.ops.scan import scan
from modelstore.ops.tree import walk
from modelstore.ops.working import hash_file
from modelstore.progress import Progress, silent
from modelstore.store import Store
from modelstore.training.data import Data, load_data
from modelstore.training.finetune import Task, carry_out
from modelstore.training.options import Step, TrainOptions, TrainResult
from modelstore.training.plan import Plan, downloaded, from_start, plan_value
from modelstore.training.provenance import BASE_DIGEST, EVALUATION, options_from
from modelstore.training.runs import Run
from modelstore.training.start import Start, find_start, lay_out

_RELEVANT = ("mstore", "python", "torch", "transformers", "trl", "peft", "accelerate", "tokenizers")
_MACHINE = ("device_name", "threads")
"""What of the environment may change the last digits."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay.

    Attributes:
        version: what was trained again.
        tensors: how many it has, those of its adapter included.
        different: names of the tensors that came out otherwise, in order.
        environment: by name what it was trained with and what it was replayed with, where these
            differ: the likely reason.
        result: what the replay measured.
    """

    version: Resolved
    tensors: int
    different: tuple[str, ...]
    environment: Mapping[str, tuple[str, str]]
    result: TrainResult

    @property
    def equal(self) -> bool:
        """Whether all tensors came out bit for bit as they are in the version."""
        return not self.different


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where that lies now which a version was trained on.

    Attributes:
        data: its data, in any order; what is not given is looked for where it was.
        base: its base, or "" for where that was.
        ollama: where Ollama keeps models, for a base that is named as there.
    """

    data: Sequence[Path] = ()
    base: str = ""
    ollama: Sequence[Path] = ()


def replay(
    store: Store,
    resolved: Resolved,
    where: Whereabouts,
    watch: Callable[[Step], None],
    progress: Progress = silent,
) -> Replayed:
    """Train a version again and compare.

    Args:
        watch: called after every optimizer step.
        progress: told about bytes before and after the training.

    Raises:
        ConflictError: the base or a file of data is not what it was.
        NotFoundError: one of them is gone.
        UsageError: the version was not made by `mstore train`, or by several processes.
    """
    manifest = store.manifest(resolved.model, resolved.entry)
    plan = plan_of(store, resolved, manifest, where)
    with _place(store) as run:
        task = Task(
            base=lay_out(store, plan.start, run.path, progress),
            rows=plan.data.rows,
            options=plan.options,
            output=run.output,
            adapter=run.output / DIRECTORY if plan.options.adapts else None,
            evaluation=plan.data.evaluation,
            base_name=plan.base,
        )
        result = carry_out(task, watch)
        again = Manifest(tuple(item.entry for item in scan(walk(run.output).files, progress)))
    now = {name: str(value) for name, value in result.environment.items()}
    return Replayed(
        resolved,
        len(tensors_by_name(manifest)),
        tuple(_different(manifest, again)),
        dict(_changes(manifest.environment, now)),
        result,
    )


def plan_of(store: Store, resolved: Resolved, manifest: Manifest, where: Whereabouts) -> Plan:
    """Return the plan that a version was made by.

    Raises: as `replay` does.
    """
    parameters = from_scalars(manifest.parameters)
    if "method" not in parameters or not manifest.data:
        raise UsageError(
            f"{resolved} was not made by mstore train, so there is nothing to replay",
            f"see how it was made: mstore show {resolved}",
        )
    if int(parameters.get("processes", 1)) > 1:
        raise UsageError(f"{resolved} was trained by {parameters['processes']} processes together")
    options = replace(options_from(parameters), processes=1)
    split = float(parameters.get("eval_split", 0))
    data = _data(manifest.data, where.data, split, options)
    start = _start(store, resolved, manifest, where)
    plan = downloaded(from_start(resolved.model, start, data, options, split))
    known = manifest.environment.get(BASE_DIGEST)
    if known and plan_value(plan)["base_digest"] != known:
        raise ConflictError(f"the base '{plan.base}' is not what {resolved} was trained from")
    return plan


def _start(store: Store, resolved: Resolved, manifest: Manifest, where: Whereabouts) -> Start:
    if where.base or not manifest.parents:
        base = where.base or manifest.base_model
        return find_start(store, resolved.model, "", base, where.ollama)
    models = [resolved.model, *(m for m in store.models() if m != resolved.model)]
    for model in models:
        entry = store.state(model).with_id(manifest.parents[0])
        if entry is not None:
            version = Resolved(model, entry)
            return Start(str(version), version=version)
    raise NotFoundError(
        f"the version {manifest.parents[0][:12]} that {resolved} was trained from is not here",
        "bring it back with: mstore undelete, or mstore pull",
    )


def _data(
    recorded: Sequence[Mapping[str, Scalar]],
    given: Sequence[Path],
    split: float,
    options: TrainOptions,
) -> Data:
    missing = [path for path in given if not path.is_file()]
    if missing:
        raise NotFoundError(f"there is no file '{missing[0]}'")
    by_digest = {str(hash_file(path)): path for path in given}
    places = [(_found(row, by_digest), row.get("use") == EVALUATION) for row in recorded]
    return load_data(
        [path for path, held in places if not held],
        evaluation=[path for path, held in places if held],
        split=split,
        seed=options.seed,
    )


def _found(row: Mapping[str, Scalar], by_digest: Mapping[str, Path]) -> Path:
    """Return where a recorded file of data is: among those given, or where it was."""
    digest, path = str(row.get("blake3")), Path(str(row.get("path") or row.get("name")))
    if digest in by_digest:
        return by_digest[digest]
    hint = "say where it is now: --data FILE"
    if not path.is_file():
        raise NotFoundError(f"the data file '{path}' is gone", hint)
    if hash_file(path) != digest:
        raise ConflictError(f"the data file '{path}' is not what was trained on", hint)
    return path


@contextmanager
def _place(store: Store) -> Iterator[Run]:
    """Have a directory among the runs; one that `mstore train --resume` does not take for a run."""
    name = f"{moments.stamp(moments.now())}-replay-{os.urandom(3).hex()}"
    run = Run(name, store.meta / RUNS / name)
    store.prepare()
    disk.make_dir(run.path)
    try:
        with run.held():
            yield run
    finally:
        disk.remove_tree(run.path)


def _different(before: Manifest, after: Manifest) -> Iterator[str]:
    old, new = tensors_by_name(before), tensors_by_name(after)
    for name in {**old, **new}:
        blobs = {one.span.blob if (one := found.get(name)) else "" for found in (old, new)}
        if len(blobs) > 1:
            yield name


def _changes(
    before: Mapping[str, Scalar], now: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, str]]]:
    for name in (*_RELEVANT, *_MACHINE):
        then = str(before.get(name, ""))
        if then != now.get(name, ""):
            yield name, (then, now.get(name, ""))

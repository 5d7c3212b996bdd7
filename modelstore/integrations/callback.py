"""A callback of transformers' Trainer that makes what is trained versions of a model.

    trainer.add_callback(CommitCallback("tuned_models", "llama_1b"))

Nothing of the training changes. An error of the store never ends it: it is warned of at once, and
raised when the training has ended if the newest weights are not in the store by then.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from transformers import TrainerCallback

from modelstore import disk
from modelstore.errors import NotFoundError, StoreError, UsageError
from modelstore.integrations import trainer_record
from modelstore.integrations.opening import StoreLike, opened
from modelstore.integrations.saving import (
    UNROUNDED,
    Rounding,
    is_adapted,
    is_sharded,
    rounding_like,
    rounding_to,
    save,
)
from modelstore.names import parse_model
from modelstore.ops import working
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, Committed, commit
from modelstore.ops.origin import place_of, state_of
from modelstore.ops.read import read_file
from modelstore.ops.resolve import Context, Resolved, resolve
from modelstore.ops.room import require_writable
from modelstore.ops.tree import IGNORE_FILE
from modelstore.store import Store

_STATE = "trainer_state.json"
"""The file of a checkpoint that says how far the training was."""

_WEIGHTS_ONLY = f"training_args.bin\n{_STATE}\noptimizer_*/\n"
_TO_RESUME = (
    "training_args.bin\n!optimizer.pt\n!optimizer.bin\n!scheduler.pt\n!scaler.pt\n"
    "!rng_state*.pth\n!global_step*/\n"
)
"""Rules for what Trainer writes. Its training_args.bin is a pickle, which nobody should load."""


class CommitCallback(TrainerCallback):
    """Commits what a Trainer trains, on the world's rank 0.

    Args:
        store: a store, what holds one, or a directory where one is.
        model: the line that the versions belong to; it need not exist.
        when: "end", once the training has ended; or "save", each checkpoint that Trainer writes.
        merge: merge adapters of PEFT into the weights, so that a version is a whole model; they are
            kept beside it, in adapter/. False: a version is what Trainer saves, the adapters alone.
        dtype: what to round weights to, as in "bfloat16"; "base" for the dtypes of the version
            that this one is made from; "" for none.
        resumable: with "save", keep all that it takes to go on from a version, optimizer and
            random numbers too, exactly as Trainer wrote it; see `latest`.
        options: fields of `modelstore.ops.commit.CommitOptions`: message (else the step), activate
            (each version), parents, parameters, metrics, data, note, ... Parameters and metrics
            go before those of the Trainer. The first parent is, if that is not said, the version
            whose checkout the model was loaded from, else the newest of the line; and then the
            version before.

    Attributes:
        versions: what was committed, oldest first.
        failures: the errors of the store so far.

    Raises:
        UsageError: what is asked for contradicts itself.
    """

    def __init__(
        self,
        store: StoreLike,
        model: str,
        *,
        when: Literal["end", "save"] = "end",
        merge: bool = True,
        dtype: str = "",
        resumable: bool = False,
        **options: Any,
    ) -> None:
        self._store = opened(store)
        self._model = parse_model(model)
        if when not in ("end", "save"):
            raise UsageError(f"CommitCallback: when={when!r}", 'say "end" or "save"')
        if resumable and (when == "end" or dtype):
            raise UsageError(
                "CommitCallback: only what is saved, and not rounded, can be resumed",
                'say when="save" with resumable=True, and leave out dtype',
            )
        self._when = when
        self._merge = merge and not resumable
        self._dtype = dtype
        self._rounding = rounding_to("" if dtype == "base" else dtype)
        self._resumable = resumable
        try:
            self._options = CommitOptions(**options)
        except TypeError as error:
            raise UsageError(f"CommitCallback: {error}") from error
        self._started = time.monotonic()
        self._is_behind = False
        self._left: Path | None = None
        self.versions: list[Committed] = []
        self.failures: list[StoreError] = []

    # --- events

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Refuse what could not be committed hours later.

        Raises:
            StoreError: the store cannot be written to.
            UsageError: this process will not have the whole weights.
        """
        if not state.is_world_process_zero:
            return
        self._started = time.monotonic()
        self.versions, self.failures, self._is_behind = [], [], False
        require_writable(self._store)
        parents = self._parents(given["model"])
        if self._dtype == "base":
            self._rounding = _dtypes_of(self._store, parents)
        self._check(given["model"])

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Commit the checkpoint that was just written; warn where that fails."""
        if self._when == "save" and state.is_world_process_zero:
            self._try(args, state, given)
            if self.failures and self._is_behind:
                warnings.warn(f"not committed: {self.failures[-1]}", RuntimeWarning, stacklevel=2)

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Commit the result; raise if the newest weights are not in the store.

        Raises:
            StoreError: why they are not, and where they are instead.
        """
        if not state.is_world_process_zero:
            return
        if self._when == "end":
            self._try(args, state, given)
        if self._is_behind:
            raise self.failures[-1]

    # --- committing

    def _try(self, args: Any, state: Any, given: dict[str, Any]) -> None:
        """Commit, or note the error of the store and where the files are."""
        self._is_behind = True
        try:
            with self._files(args, state, given) as (path, adapter):
                self.versions.append(self._commit(path, adapter, args, state, given["model"]))
        except StoreError as error:
            self.failures.append(error)
        else:
            self._is_behind = False

    @contextmanager
    def _files(
        self, args: Any, state: Any, given: dict[str, Any]
    ) -> Iterator[tuple[Path, Path | None]]:
        """Give the directory that becomes a version, and the adapters that were merged into it."""
        model = given["model"]
        output = Path(args.output_dir)
        if self._when == "save" and not self._is_converted(model):
            path = output / f"checkpoint-{state.global_step}"
            with (
                _ignoring(path, _TO_RESUME if self._resumable else _WEIGHTS_ONLY),
                _kept(path, self._model, None),
            ):
                yield path, None
            return
        self._clear()  # of two results that could not be committed the newer is worth more
        path = output / f"mstore-{state.global_step}-{os.urandom(3).hex()}"
        processing = given.get("processing_class")
        with _written(path):
            adapter = save(model, processing, path, merge=self._merge, rounding=self._rounding)
        self._left = path
        with _kept(path, self._model, adapter):
            yield path, adapter
        self._clear()

    def _clear(self) -> None:
        if self._left is not None:
            disk.remove_tree(self._left)
        self._left = None

    def _commit(
        self, path: Path, adapter: Path | None, args: Any, state: Any, model: Any
    ) -> Committed:
        seconds = time.monotonic() - self._started
        options = replace(
            self._options,
            message=self._options.message or f"step {state.global_step}",
            parents=tuple(map(str, self._parents(model))),
            parameters={**trainer_record.parameters(args, model), **self._options.parameters},
            metrics={**trainer_record.metrics(state, seconds), **self._options.metrics},
            environment=self._options.environment or trainer_record.environment(),
            curve=self._options.curve or trainer_record.curve(state.log_history),
            adapter=adapter,
        )
        return commit(self._store, path, self._model, options)

    def _parents(self, model: Any) -> list[Resolved]:
        """Return the versions that the next one is made from."""
        if self.versions:
            done = self.versions[-1]
            return [resolve(self._store, f"{done.model}@{done.version}")]
        if self._options.parents is not None:
            context = Context(model=self._model)
            return [resolve(self._store, text, context) for text in self._options.parents]
        path = Path(getattr(model, "name_or_path", "") or "")
        loaded = place_of(self._store, path, self._model, "").checkout if path.name else None
        newest = state_of(self._store, self._model).newest_stored()
        return [loaded] if loaded else [Resolved(self._model, newest)] if newest else []

    def _is_converted(self, model: Any) -> bool:
        """Tell whether a version holds other weights than Trainer writes."""
        return bool(self._rounding) or (self._merge and is_adapted(model))

    def _check(self, model: Any) -> None:
        """Raise if what is asked for cannot be made of ``model``."""
        if is_sharded(model) and (self._when == "end" or self._is_converted(model)):
            raise UsageError(
                "no process has the whole weights, so only what Trainer saves can be committed",
                'say when="save", merge=False, and no dtype; or save with '
                "modelstore.integrations.distributed",
            )
        if getattr(model, "is_quantized", False) and self._is_converted(model):
            raise UsageError(
                "adapters of a quantised model cannot be merged without rounding its weights again",
                "commit the adapters alone: merge=False",
            )

    # --- going on

    @staticmethod
    def latest(store: StoreLike, model: str, directory: str | os.PathLike[str]) -> str | None:
        """Write out the newest checkpoint that a training can go on from, every byte verified.

            trainer.train(resume_from_checkpoint=CommitCallback.latest(store, model, args.output_dir))

        Args:
            store, model: as for the callback that committed it with ``resumable``.
            directory: outside the store; the checkpoint is ``checkpoint-N`` in it.

        Returns:
            The path of the checkpoint; None where there is none, and a training begins anew.

        Raises:
            ConflictError: there is another ``checkpoint-N`` already.
            IntegrityError: the version is damaged.
        """
        found = opened(store)
        line = parse_model(model)
        for entry in reversed(state_of(found, line).entries()):
            resolved = Resolved(line, entry)
            if entry.id is not None and _can_be_resumed(found, resolved):
                step = json.loads(read_file(found, resolved, _STATE))["global_step"]
                path = Path(directory, f"checkpoint-{int(step)}")
                checkout(found, resolved, output=path)
                working.forget(found, path)  # Trainer's from now on, which will remove it one day
                return str(path)
        return None


def _can_be_resumed(store: Store, resolved: Resolved) -> bool:
    try:
        return store.manifest(resolved.model, resolved.entry).file(_STATE) is not None
    except NotFoundError:
        return False


@contextmanager
def _ignoring(directory: Path, rules: str) -> Iterator[None]:
    """Let a commit of ``directory`` follow ``rules``, whatever becomes of it."""
    path = directory / IGNORE_FILE
    disk.replace(path, rules.encode())
    try:
        yield
    finally:
        disk.remove(path)


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Remove what could not be written completely, and let an error say what that was."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        disk.remove_tree(path)
        raise StoreError(f"the model cannot be written to '{path}': {error}") from error


@contextmanager
def _kept(path: Path, model: str, adapter: Path | None) -> Iterator[None]:
    """Let an error of the store say where the files are that it concerns."""
    try:
        yield
    except StoreError as error:
        words = f"mstore commit {path} -M {model}" + (f" --adapter {adapter}" if adapter else "")
        hint = f"the files are kept; commit them with: {words}"
        raise type(error)(error.message, hint) from error


def _dtypes_of(store: Store, parents: list[Resolved]) -> Rounding:
    if not parents:
        return UNROUNDED
    content = store.manifest(parents[0].model, parents[0].entry)
    weights = ((f, t) for f, _, t in content.tensors() if "/" not in f.path)  # and no adapters
    return rounding_like({tensor.name: tensor.dtype for _, tensor in weights})

"""From a base and data to a committed version."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from modelstore import disk, locks
from modelstore.blobs import FrameHeader
from modelstore.errors import (
    ConflictError,
    LockTimeoutError,
    NotFoundError,
    RemoteError,
    UsageError,
)
from modelstore.hashing import digest_of
from modelstore.names import ModelName
from modelstore.ops.adapter import without_adapter
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import resolve
from modelstore.store import Store, create
from modelstore.training import runs
from modelstore.training.options import Step, TrainOptions
from modelstore.training.plan import Plan, plan
from modelstore.training.run import Trained, resume, train
from modelstore.training.runs import list_runs

pytest.importorskip("trl")

TINY = ModelName("tiny")
QUICK = TrainOptions(max_steps=2, device="cpu", learning_rate=1e-2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return create(tmp_path / "tuned_models")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two rows to learn."""
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "a", "completion": "b"}, {"instruction": "c?", "output": "d"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _train(store: Store, run: Plan, **said: str) -> Trained:
    steps: list[Step] = []
    trained = train(store, run, CommitOptions(**said), steps.append)  # type: ignore[arg-type]
    assert len(steps) == 2
    return trained


def test_a_directory_becomes_the_first_version(store: Store, tiny_model: Path, data: Path) -> None:
    """Trained from a directory, a new line has a v1.0 that records base, data and measurements."""
    run = plan(store, TINY, [data], QUICK, base=str(tiny_model))
    committed = _train(store, run, note="a note").committed
    assert (committed.version, committed.active, committed.parent) == ("v1.0", True, "")
    resolved = resolve(store, "tiny@v1.0")
    manifest = store.manifest(TINY, resolved.entry)
    assert manifest.base_model == str(tiny_model)
    assert manifest.message == f"fine-tune of {tiny_model} on rows.jsonl"
    assert manifest.parameters["learning_rate"] == "0.01"
    assert manifest.parameters["device"] == "cpu"
    assert {"training_time", "loss", "model_size"} <= manifest.metrics.keys()
    assert dict(manifest.data[0]) == {
        "name": "rows.jsonl",
        "size": data.stat().st_size,
        "rows": 2,
        "blake3": digest_of(data.read_bytes()),
        "path": str(data),
    }
    assert "torch" in manifest.environment
    assert resolved.entry.text("notes") == "a note"
    assert not list((store.meta / "runs").iterdir())


def test_a_version_becomes_the_next(
    store: Store, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """Trained from ACTIVE, the next version has it as parent, and ACTIVE stays where it is."""
    commit(store, tiny_model, TINY, CommitOptions(message="the base"))
    run = plan(store, TINY, [data], QUICK)
    assert run.base == "tiny@v1.0"
    committed = _train(store, run, message="better").committed
    assert (committed.version, committed.parent, committed.active) == ("v1.1", "tiny@v1.0", False)
    out = checkout(store, resolve(store, "tiny@v1.1"), output=tmp_path / "out").path
    assert (out / "config.json").read_bytes() == (tiny_model / "config.json").read_bytes()
    from_older = plan(store, ModelName("other"), [data], QUICK, source="tiny@v1.0")
    elsewhere = _train(store, from_older).committed
    assert (elsewhere.model, elsewhere.version, elsewhere.parent) == ("other", "v1.0", "tiny@v1.0")


def test_a_failed_run_leaves_nothing(store: Store, tiny_model: Path, data: Path) -> None:
    """Whatever stops a run before it has a result, no version and no directory is left."""
    run = plan(store, TINY, [data], QUICK, base=str(tiny_model))

    def stop(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(store, run, CommitOptions(), stop)
    assert list_runs(store) == []
    assert store.models() == []


def test_a_result_that_cannot_be_committed_is_kept(
    store: Store, tiny_model: Path, data: Path
) -> None:
    """A trained model outlives a failing commit, and the hint commits it without training again."""
    run = plan(store, TINY, [data], QUICK, base=str(tiny_model))
    store.lock_timeout = 0.1
    with (
        locks.locked(store.meta / "locks" / "store.lock"),
        pytest.raises(LockTimeoutError) as caught,
    ):
        _train(store, run)
    (kept,) = list_runs(store)
    assert kept.state == "trained"
    assert caught.value.hint.endswith(f"commit it with: mstore train --resume {kept.id}")
    steps: list[Step] = []
    again = resume(store, "", steps.append)
    assert (again.committed.version, steps, len(again.result.curve)) == ("v1.0", [], 2)
    assert list_runs(store) == []


def test_a_run_is_committed_once(store: Store, tiny_model: Path, data: Path) -> None:
    """A crash between the commit and the end of the run makes no second version."""
    run = plan(store, TINY, [data], QUICK, base=str(tiny_model))
    _train(store, run)
    made = resolve(store, "tiny@v1.0").entry.values["run"]
    left = runs.create(store, run, {})
    disk.rename(left.path, left.path.with_name(made))
    with pytest.raises(ConflictError, match=f"{made} is over: it made tiny@v1.0"):
        resume(store, made, lambda _: None)
    assert list_runs(store) == []


def _changed(store: Store, version: str, before: str) -> dict[str, FrameHeader]:
    """Return the frames of the tensors of a version that another version does not have."""
    headers = []
    for ref in (before, version):
        resolved = resolve(store, ref)
        manifest = store.manifest(resolved.model, resolved.entry)
        tensors = without_adapter(manifest).tensors()
        headers.append({t.name: store.blobs.header(s.blob) for _, s, t in tensors})
    old, new = headers
    return {name: new[name] for name in new if new[name].digest != old[name].digest}


def test_a_merged_adapter_is_stored_as_a_product(
    store: Store, wide_model: Path, data: Path, tmp_path: Path
) -> None:
    """Tensors that adapters were merged into are stored as their base and what was added to it."""
    commit(store, wide_model, TINY, CommitOptions())
    committed = _train(store, plan(store, TINY, [data], QUICK)).committed
    frames = _changed(store, "tiny@v1.1", "tiny@v1.0")
    assert len(frames) == 2 * 7  # every linear layer of two blocks
    assert {frame.codec for frame in frames.values()} == {"lowrank"}
    assert all(frame.stored_size < frame.raw_size / 8 for frame in frames.values())
    assert not list((store.meta / "runs").iterdir())
    out = checkout(store, resolve(store, "tiny@v1.1"), output=tmp_path / "out").path
    without = create(tmp_path / "without")
    commit(without, wide_model, TINY, CommitOptions())
    assert 2 * committed.stored < commit(without, out, TINY, CommitOptions()).stored


def test_full_training_has_no_adapter(store: Store, wide_model: Path, data: Path) -> None:
    """Where every weight was trained, a version is stored as steps from its parent."""
    commit(store, wide_model, TINY, CommitOptions())
    options = replace(QUICK, method="full", learning_rate=1e-5)
    committed = _train(store, plan(store, TINY, [data], options)).committed
    frames = _changed(store, "tiny@v1.1", "tiny@v1.0")
    wide = [frame for frame in frames.values() if frame.raw_size > 1 << 16]
    assert {frame.codec for frame in wide} == {"steps"}
    assert committed.stored < committed.size / 10


@pytest.mark.parametrize("line", ["tiny", "other"])
def test_a_directory_that_is_stored_is_a_base(
    store: Store, wide_model: Path, data: Path, line: str
) -> None:
    """A directory is no parent, but what the store has of its weights is not stored again."""
    commit(store, wide_model, TINY, CommitOptions())
    directory = checkout(store, resolve(store, "tiny@v1.0")).path
    run = plan(store, ModelName(line), [data], QUICK, base=str(directory))
    committed = _train(store, run).committed
    assert committed.parent == ""
    frames = _changed(store, f"{line}@{committed.version}", "tiny@v1.0")
    assert len(frames) == 2 * 7
    assert all(frame.depth == 1 for frame in frames.values())
    assert {frame.codec for frame in frames.values()} == {"lowrank"}


def test_what_to_start_from_must_be_had(
    store: Store, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """A base that is not there is an error at once, and every error names the way out."""
    with pytest.raises(UsageError, match="no version to start from") as nothing:
        plan(store, TINY, [data], QUICK)
    assert "--base DIR" in nothing.value.hint
    with pytest.raises(UsageError, match="exclude each other"):
        plan(store, TINY, [data], QUICK, source="v1.0", base=str(tiny_model))
    with pytest.raises(NotFoundError, match="there is no directory"):
        plan(store, TINY, [data], QUICK, base=str(tmp_path / "nowhere"))
    with pytest.raises(NotFoundError, match="no model 'tiny'"):
        plan(store, TINY, [data], QUICK, source="v1.0")
    run = plan(store, TINY, [data], QUICK, base="nobody/nothing")
    with pytest.raises(RemoteError, match="'nobody/nothing' is not on this machine") as offline:
        train(store, run, CommitOptions(), lambda step: None)
    assert "--base DIR" in offline.value.hint
    assert not list((store.meta / "runs").iterdir())

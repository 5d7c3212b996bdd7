"""A run that ends early, by whatever, goes on to the same bytes as if it had not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelstore.errors import ConflictError, IntegrityError, StoppedError
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.gc import gc, plan_gc
from modelstore.ops.in_use import checkpoints
from modelstore.ops.read import read_file
from modelstore.ops.resolve import resolve
from modelstore.store import Store, create
from modelstore.training import runs
from modelstore.training.options import Step, TrainOptions
from modelstore.training.plan import Plan, Request, plan_value, planned
from modelstore.training.run import Trained, resume, train

pytest.importorskip("trl")

TINY = ModelName("tiny")
OPTIONS = TrainOptions(epochs=2, device="cpu", learning_rate=1e-2, save_every=2, warmup=0.2)
STEPS = 8


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return create(tmp_path / "tuned_models")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four rows to learn."""
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = [{"prompt": f"{i}?", "completion": f"{i} is {i * i}"} for i in range(4)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _plan(store: Store, base: Path, data: Path, options: TrainOptions) -> Plan:
    evaluation = data.with_name("evaluation.jsonl")
    evaluation.write_text('{"prompt": "9?", "completion": "9 is 81"}\n')
    request = Request(TINY, (data,), evaluation=(evaluation,), base=str(base))
    return planned(store, request, options)


def _quiet(step: Step) -> None:
    """Watch nothing."""


def _at(number: int, then: Callable[[], None]) -> Callable[[Step], None]:
    """Return what does ``then`` after step ``number``."""

    def watch(step: Step) -> None:
        if step.number == number:
            then()

    return watch


def _interrupt() -> None:
    raise KeyboardInterrupt


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _weights(store: Store, trained: Trained) -> bytes:
    made = trained.committed
    return read_file(store, resolve(store, f"{made.model}@{made.version}"), "model.safetensors")


@pytest.fixture(scope="module")
def whole(
    tiny_model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], bytes]:
    """What runs that nothing disturbs make of the weights, by method."""
    found: dict[str, bytes] = {}

    def get(method: str) -> bytes:
        if method not in found:
            store = create(tmp_path_factory.mktemp("whole") / "tuned_models")
            options = replace(OPTIONS, method=method, save_every=1000)
            trained = train(store, _plan(store, tiny_model, data, options), CommitOptions(), _quiet)
            found[method] = _weights(store, trained)
        return found[method]

    return get


@pytest.mark.parametrize("method", ["lora", "full"])
def test_an_aborted_run_goes_on(
    store: Store, tiny_model: Path, data: Path, whole: Callable[[str], bytes], method: str
) -> None:
    """From its newest checkpoint it makes the same bytes, and the same curve without a gap."""
    plan = _plan(store, tiny_model, data, replace(OPTIONS, method=method))
    with pytest.raises(KeyboardInterrupt):
        train(store, plan, CommitOptions(message="because"), _at(5, _interrupt))
    (info,) = runs.list_runs(store)
    assert (info.state, info.step, info.model) == ("resumable", 4, "tiny")
    assert store.models() == []
    steps: list[Step] = []
    trained = resume(store, "", steps.append)
    assert [step.number for step in steps] == [5, 6, 7, 8]
    assert _weights(store, trained) == whole(method)
    curve = trained.result.curve
    assert [step.number for step in curve] == list(range(1, STEPS + 1))
    assert [step.number for step in curve if step.evaluation is not None] == [4, 8]
    assert [step.tokens for step in curve] == sorted({step.tokens for step in curve})
    assert {"eval_loss", "best_eval_loss", "eval_loss_before", "cpu_time"} <= set(
        trained.result.metrics
    )
    entry = resolve(store, "tiny@v1.0").entry
    assert entry.values["message"] == "because"
    assert runs.list_runs(store) == []
    assert not list((store.meta / "runs").iterdir())


def test_a_signal_saves_the_run(
    store: Store, tiny_model: Path, data: Path, whole: Callable[[str], bytes]
) -> None:
    """It ends after the step with a checkpoint, no version, and the command that continues it."""
    plan = _plan(store, tiny_model, data, OPTIONS)
    with pytest.raises(StoppedError) as caught:
        train(store, plan, CommitOptions(), _at(3, _terminate))
    (info,) = runs.list_runs(store)
    assert info.step in {3, 4}  # a signal is seen when Python next looks
    assert caught.value.exit_code == 130
    assert caught.value.hint.endswith(f"mstore train --resume {info.id}")
    assert store.models() == []
    assert _weights(store, resume(store, info.id, _quiet)) == whole("lora")


def test_gc_leaves_checkpoints(store: Store, tiny_model: Path, data: Path) -> None:
    """What a run needs to go on stays, and what only a discarded one needed goes with it."""
    commit(store, tiny_model, ModelName("other"), CommitOptions())
    before = set(store.blobs.iter_digests())
    plan = _plan(store, tiny_model, data, OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        train(store, plan, CommitOptions(), _at(5, _interrupt))
    (info,) = runs.list_runs(store)
    assert before < set(store.blobs.iter_digests())
    assert gc(store, plan_gc(store, purge_now=True)).frames == 0
    runs.discard_run(store, info.id)
    assert runs.list_runs(store) == []
    assert set(store.blobs.iter_digests()) == before


def test_only_the_last_checkpoints_are_kept(store: Store, tiny_model: Path, data: Path) -> None:
    """Older ones leave the store as well, at once."""
    plan = _plan(store, tiny_model, data, replace(OPTIONS, save_every=1))
    seen: list[int] = []

    def watch(step: Step) -> None:
        (run,) = (store.meta / "runs").iterdir()
        notes = checkpoints(run)
        seen.append(len(notes))
        if step.number == 7:
            assert [note.step for note in notes] == [5, 6]
            assert not plan_gc(store).frames
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(store, plan, CommitOptions(), watch)
    assert seen == [0, 1, 2, 2, 2, 2, 2]


def test_a_damaged_checkpoint_is_passed_over(
    store: Store, tiny_model: Path, data: Path, whole: Callable[[str], bytes]
) -> None:
    """The one before it is taken, and where there is none, nothing is made up."""
    plan = _plan(store, tiny_model, data, OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        train(store, plan, CommitOptions(), _at(5, _interrupt))
    (run,) = (store.meta / "runs").iterdir()
    older, newer = checkpoints(run)
    store.blobs.path(newer.manifest).unlink()
    steps: list[Step] = []
    assert _weights(store, resume(store, "", steps.append)) == whole("lora")
    assert steps[0].number == older.step + 1


def test_an_unreadable_note_protects_everything(store: Store, tiny_model: Path, data: Path) -> None:
    """Where nobody can tell what a run needs, nothing is deleted; discarding it helps."""
    plan = _plan(store, tiny_model, data, OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        train(store, plan, CommitOptions(), _at(5, _interrupt))
    (run,) = (store.meta / "runs").iterdir()
    (run / "checkpoints" / "4.json").write_text("{")
    with pytest.raises(IntegrityError, match="names no checkpoint") as caught:
        plan_gc(store)
    assert f"mstore train --discard {run.name}" in caught.value.hint
    runs.discard_run(store, run.name)
    plan_gc(store)


def test_what_differs_is_refused(
    store: Store, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """A run goes on with the same data, base and options, or not at all."""
    mine = tmp_path / "mine.jsonl"
    mine.write_bytes(data.read_bytes())
    plan = _plan(store, tiny_model, mine, OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        train(store, plan, CommitOptions(), _at(5, _interrupt))
    other = _plan(store, tiny_model, mine, replace(OPTIONS, seed=7, method="full"))
    with pytest.raises(ConflictError, match="other method, seed"):
        resume(store, "", _quiet, given=other)
    assert plan_value(plan) != plan_value(other)
    mine.write_text('{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(ConflictError, match=r"mine\.jsonl"):
        resume(store, "", _quiet)
    (info,) = runs.list_runs(store)
    assert info.state == "resumable"


# --- processes


def _start(store: Store, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "modelstore", "-C", str(store.root), "train"]
    return subprocess.Popen(
        [*command, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _begin(store: Store, base: Path, data: Path, *words: object) -> subprocess.Popen[str]:
    """Start the run of ``_plan`` in a process of its own."""
    sets = [f"--set={name}" for name in ("save_every=2", "warmup=0.2")]
    evaluation = data.with_name("evaluation.jsonl")
    asked = ("--device", "cpu", "--epochs", 2, "--learning-rate", 0.01, *sets)
    return _start(
        store, "tiny", "--data", data, "--eval", evaluation, "--base", base, *asked, *words
    )


def _steps_of(store: Store) -> int:
    rows = 0
    for path in (store.meta / "runs").glob("*/metrics.jsonl"):
        rows = path.read_bytes().count(b'"loss"')
    return rows


def _wait_for(done: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(process.communicate())
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_9_at_random_moments(
    store: Store, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """A run that is killed again and again comes to the bytes of one that was left alone."""
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)
    rows = [{"prompt": f"{i}?", "completion": f"{i} is {i * i}"} for i in range(60)]
    mine = tmp_path / "rows.jsonl"
    mine.write_text("\n".join(map(json.dumps, rows)))
    other = create(tmp_path / "other")
    whole = train(
        other,
        _plan(other, tiny_model, mine, replace(OPTIONS, epochs=1)),
        CommitOptions(),
        _quiet,
    )
    killed: list[int] = []
    process = _begin(store, tiny_model, mine, "--epochs", 1)
    for _ in range(6):
        before = _steps_of(store)
        goal = before + chance.randint(3, 8)
        _wait_for(lambda goal=goal: _steps_of(store) >= goal, process)  # type: ignore[misc]
        time.sleep(chance.random() * 0.3)
        process.kill()  # SIGKILL: nothing of it can react
        process.communicate()
        (info,) = runs.list_runs(store)
        killed.append(info.step)
        assert store.models() == []
        process = _start(store, "--resume")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.startswith("tiny@v1.0")
    print(f"seed {seed}: killed after checkpoints {killed}")
    resolved = resolve(store, "tiny@v1.0")
    assert read_file(store, resolved, "model.safetensors") == _weights(other, whole), seed
    assert len(set(killed)) > 3
    assert not list((store.meta / "runs").iterdir())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_processes(store: Store, tiny_model: Path, data: Path, tmp_path: Path) -> None:
    """Two processes train one model; stopped and continued, it makes the same bytes."""
    options = replace(OPTIONS, processes=2)
    other = create(tmp_path / "other")
    seen: list[Step] = []
    whole = train(other, _plan(other, tiny_model, data, options), CommitOptions(), seen.append)
    assert [step.number for step in seen] == [1, 2, 3, 4]  # two rows a step, two epochs
    assert whole.result.parameters["processes"] == 2
    plan = _plan(store, tiny_model, data, replace(options, save_every=1))
    with pytest.raises(StoppedError):
        train(store, plan, CommitOptions(), _at(1, _terminate))
    (info,) = runs.list_runs(store)
    assert 1 <= info.step <= 4
    assert store.models() == []
    assert _weights(store, resume(store, "", _quiet)) == _weights(other, whole)
    assert not list((store.meta / "runs").iterdir())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_terminated_command(store: Store, tiny_model: Path, data: Path) -> None:
    """SIGTERM makes the command save the run, say how to go on, and exit with 130."""
    _plan(store, tiny_model, data, OPTIONS)
    process = _begin(store, tiny_model, data, "--epochs", 50)
    _wait_for(lambda: _steps_of(store) >= 3, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    (info,) = runs.list_runs(store)
    assert f"mstore train --resume {info.id}" in err
    assert info.step >= 3
    assert store.models() == []

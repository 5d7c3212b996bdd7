"""A Trainer's checkpoints and results become versions, and trainings go on from them."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import modelstore
from modelstore.api import ModelStore
from modelstore.errors import StoreError, UsageError
from modelstore.ops.init import init

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from modelstore.integrations.transformers import CommitCallback  # noqa: E402

OF_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
"""PEFT still asks transformers for what has another name now."""

ROWS = [{"input_ids": row, "labels": row} for row in torch.arange(64).view(8, 8)]
LINE = "llama_1b"


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> Iterator[None]:
    """Keep what is loaded away from the collections of garbage that every Trainer asks for."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """An empty store."""
    init(tmp_path / "tuned_models")
    return modelstore.open(tmp_path / "tuned_models")


def _trainer(model: Any, output: Path, *callbacks: Any, **arguments: Any) -> Any:
    """Return a Trainer of four steps that saves after every second one."""
    settings = {
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "save_steps": 2,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "report_to": [],
        "seed": 3,
        **arguments,
    }
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(str(output), **settings),
        train_dataset=ROWS,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _load(directory: Path, **options: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype="float32", **options)


def _adapted(directory: Path) -> Any:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    return peft.get_peft_model(_load(directory), config)


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_result_is_a_version(tiny_model: Path, tmp_path: Path, store: ModelStore) -> None:
    """At the end the weights that Trainer would save are committed, with what is known of them."""
    callback = CommitCallback(store, LINE, message="tuned", parameters={"data": "rows"})
    trainer = _trainer(_load(tiny_model), tmp_path / "out", callback)
    trainer.train()
    (row,) = store.log(LINE)
    assert (row["version"], row["message"]) == ("v1.0", "tuned")
    parameters, metrics = row["training_parameters"], row["metrics"]
    assert (parameters["batch_size"], parameters["learning_rate"]) == (2, 0.01)
    assert parameters["data"] == "rows"
    assert metrics["steps"] == 4
    assert metrics["loss"] == trainer.state.log_history[3]["loss"]
    curve = store.store.manifest(LINE, store.resolve("v1.0").entry).curve
    assert [(p.step, float(p.loss)) for p in curve] == [
        (row["step"], pytest.approx(row["loss"], rel=1e-5))
        for row in trainer.state.log_history
        if "loss" in row
    ]
    trainer.save_model(str(tmp_path / "saved"))
    saved = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert _equal(store.from_pretrained("v1.0").state_dict(), saved.state_dict())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "checkpoint-2",
        "checkpoint-4",
    ]


def test_a_long_curve_is_thinned() -> None:
    """Of many rows points evenly apart stay, the last among them; what is not finite is left out."""
    from modelstore.integrations.trainer_record import MOST_POINTS, curve

    rows = [{"step": step, "loss": 1 / step} for step in range(1, 2501)]
    points = curve([*rows, {"step": 2500, "eval_loss": 0.25}, {"train_runtime": 1.0, "step": 2500}])
    assert len(points) <= MOST_POINTS
    assert (points[-1].step, points[-1].loss, points[-1].evaluation) == (2500, "0.0004", "0.25")
    assert {after.step - before.step for before, after in pairwise(points)} == {3}
    assert curve([{"step": 1, "loss": float("nan")}]) == ()


def test_every_save_is_a_version(tiny_model: Path, tmp_path: Path, store: ModelStore) -> None:
    """Each checkpoint follows the one before, and holds the model without the optimizer."""
    _trainer(_load(tiny_model), tmp_path / "out", CommitCallback(store, LINE, when="save")).train()
    rows = store.log(LINE)
    assert [(row["message"], row["parents"]) for row in rows] == [
        ("step 4", ["v1.0"]),
        ("step 2", []),
    ]
    files = {file.path for file in store.store.manifest(LINE, store.resolve("v1.1").entry).files}
    assert files == {"config.json", "generation_config.json", "model.safetensors"}
    assert not list((tmp_path / "out").rglob(".mstoreignore"))


def test_the_parent_is_what_the_model_was_loaded_from(
    tiny_model: Path, tmp_path: Path, store: ModelStore
) -> None:
    """A model that was loaded from a checkout descends from it, and is saved in its dtype."""
    store.commit(tiny_model, LINE, "base")
    store.commit(_changed(tiny_model, tmp_path / "other"), LINE, "another")
    base = store.checkout("v1.0").path
    callback = CommitCallback(store, LINE, dtype="base")
    _trainer(_load(base), tmp_path / "out", callback, save_strategy="no").train()
    newest = store.log(LINE)[0]
    assert (newest["version"], newest["parents"]) == ("v1.2", ["v1.0"])
    before, after = store.load("v1.0", "torch"), store.load("v1.2", "torch")
    assert {n: (t.dtype, t.shape) for n, t in before.items()} == {
        n: (t.dtype, t.shape) for n, t in after.items()
    }
    assert not _equal(before, after)


def _changed(model: Path, target: Path) -> Path:
    shutil.copytree(model, target)
    (target / "note.txt").write_text("changed")
    return target


def test_a_training_goes_on_from_a_version(
    tiny_model: Path, tmp_path: Path, store: ModelStore
) -> None:
    """Resumed from the store on another machine, a training ends as if never interrupted."""
    assert CommitCallback.latest(store, LINE, tmp_path / "new") is None
    whole = _trainer(_load(tiny_model), tmp_path / "whole")
    whole.train()
    callback = CommitCallback(store.store.root, LINE, when="save", resumable=True)
    _trainer(_load(tiny_model), tmp_path / "out", callback, _StopAt(2)).train()
    shutil.rmtree(tmp_path / "out")
    found = CommitCallback.latest(store, LINE, tmp_path / "new")
    assert found == str(tmp_path / "new" / "checkpoint-2")
    resumed = _trainer(_load(tiny_model), tmp_path / "new", callback)
    resumed.train(resume_from_checkpoint=found)
    assert _equal(resumed.model.state_dict(), whole.model.state_dict())
    assert [row["message"] for row in store.log(LINE)] == ["step 4", "step 2"]
    files = store.store.manifest(LINE, store.resolve("v1.1").entry).files
    assert "optimizer.pt" in {file.path for file in files}
    assert "training_args.bin" not in {file.path for file in files}


class _StopAt(transformers.TrainerCallback):  # type: ignore[misc, name-defined, unused-ignore]
    """Ends a training after some step, as a user or a scheduler would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Stop."""
        control.should_training_stop = state.global_step >= self.step


@OF_PEFT
@pytest.mark.parametrize("when", ["end", "save"])
def test_adapters_are_merged(
    tiny_model: Path, tmp_path: Path, store: ModelStore, when: Any
) -> None:
    """A version is the merged model with its adapters beside it; the trained one is not touched."""
    store.commit(tiny_model, LINE, "base")
    callback = CommitCallback(store, LINE, when=when, dtype="base")
    trainer = _trainer(_adapted(tiny_model), tmp_path / "out", callback)
    trainer.train()
    if when == "save":  # between two steps of the training
        plain = _trainer(_adapted(tiny_model), tmp_path / "plain", save_strategy="no")
        plain.train()
        assert _equal(trainer.model.state_dict(), plain.model.state_dict())
    expected = trainer.model.merge_and_unload().to(torch.bfloat16)
    assert _equal(store.from_pretrained("latest").state_dict(), expected.state_dict())
    newest = store.log(LINE)[0]
    assert newest["training_parameters"]["method"] == "lora"
    files = store.store.manifest(LINE, store.resolve("latest").entry).files
    adapter = {file.path for file in files if file.path.startswith("adapter/")}
    assert adapter == {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}


@OF_PEFT
def test_adapters_may_stay_alone(tiny_model: Path, tmp_path: Path, store: ModelStore) -> None:
    """Unmerged, a version is what Trainer saves: the adapters."""
    callback = CommitCallback(store, "adapters", when="save", merge=False)
    _trainer(_adapted(tiny_model), tmp_path / "out", callback, save_steps=4).train()
    files = store.store.manifest("adapters", store.resolve("adapters").entry).files
    assert {file.path for file in files} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert "model.safetensors" not in {file.path for file in files}


def test_an_error_of_the_store_does_not_end_the_training(
    tiny_model: Path, tmp_path: Path, store: ModelStore
) -> None:
    """It is warned of when it happens; if the last save made it, the training ends well."""
    callback = CommitCallback(store, LINE, when="save", version="v3.0")
    breaking = _trainer(_load(tiny_model), tmp_path / "out", callback)
    with (
        pytest.warns(RuntimeWarning, match=r"not committed: llama_1b@v3\.0 exists already"),
        pytest.raises(StoreError, match="exists already") as raised,
    ):
        breaking.train()
    assert breaking.state.global_step == 4
    kept = tmp_path / "out" / "checkpoint-4"
    assert f"mstore commit {kept} -M {LINE}" in raised.value.hint
    assert (kept / "model.safetensors").exists()
    assert len(callback.failures) == 1


def test_of_results_that_cannot_be_committed_the_newest_is_kept(
    tiny_model: Path, tmp_path: Path, store: ModelStore
) -> None:
    """A store that fails for long does not fill the disk; what is kept goes once it is committed."""
    store.commit(tiny_model, LINE, "base")
    callback = CommitCallback(store, LINE, when="save", dtype="bfloat16", version="v1.0")
    trainer = _trainer(_load(tiny_model), tmp_path / "out", callback)
    with (
        pytest.warns(RuntimeWarning, match="not committed"),
        pytest.raises(StoreError, match="exists already") as raised,
    ):
        trainer.train()
    assert len(callback.failures) == 2
    (kept,) = (tmp_path / "out").glob("mstore-*")
    assert kept.name.startswith("mstore-4-")
    assert str(kept) in raised.value.hint


def test_a_result_that_cannot_be_committed_is_kept(
    tiny_model: Path, tmp_path: Path, store: ModelStore
) -> None:
    """The error at the end says where the weights are, so that no training is in vain."""
    store.commit(tiny_model, LINE, "base")
    callback = CommitCallback(store, LINE, version="v1.0")
    trainer = _trainer(_load(tiny_model), tmp_path / "out", callback, save_strategy="no")
    with pytest.raises(StoreError, match="exists already") as raised:
        trainer.train()
    (kept,) = (tmp_path / "out").iterdir()
    assert str(kept) in raised.value.hint
    store.commit(kept, LINE, "by hand")
    assert _equal(store.from_pretrained("v1.1").state_dict(), trainer.model.state_dict())


def test_only_the_first_rank_commits(tiny_model: Path, tmp_path: Path, store: ModelStore) -> None:
    """On every other rank of the world nothing happens."""
    callback = CommitCallback(store, LINE)
    state = transformers.TrainerState(is_world_process_zero=False)
    for event in (callback.on_train_begin, callback.on_save, callback.on_train_end):
        event(None, state, None)
    assert store.models() == [LINE, "llama_8b"]
    assert store.log(LINE) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"when": "never"}, "when='never'"),
        ({"resumable": True}, "can be resumed"),
        ({"when": "save", "resumable": True, "dtype": "bfloat16"}, "can be resumed"),
        ({"dtype": "int8"}, "no dtype to save"),
        ({"mood": "good"}, "mood"),
    ],
)
def test_a_contradiction_is_refused_at_once(store: ModelStore, options: Any, message: str) -> None:
    """What cannot be is said when the callback is made, not after hours of training."""
    with pytest.raises(UsageError, match=message):
        CommitCallback(store, LINE, **options)


def test_shards_cannot_be_the_result(tiny_model: Path, store: ModelStore) -> None:
    """Where no process has the whole weights, that is said before the training begins."""
    model = torch.nn.Linear(2, 2)
    model.weight.ds_id = 1  # as DeepSpeed marks a weight that lives elsewhere
    state = transformers.TrainerState()
    with pytest.raises(UsageError, match="no process has the whole weights"):
        CommitCallback(store, LINE).on_train_begin(None, state, None, model=model)
    CommitCallback(store, LINE, when="save").on_train_begin(None, state, None, model=model)


def test_importing_the_module_loads_no_transformers() -> None:
    """Only who asks for the callback loads transformers."""
    code = (
        "import sys, modelstore.integrations.transformers as m;"
        "assert not {'torch', 'transformers'} & set(sys.modules);"
        "assert 'CommitCallback' in m.__all__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Fine-tuning a tiny model: what comes out, and what does not get that far."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest

from modelstore.adapters import read_adapter
from modelstore.codecs.factors import Factors
from modelstore.codecs.prediction import best_rounding, predict
from modelstore.errors import DivergedError, NotFoundError, StoreError, UsageError
from modelstore.numeric import dtype_named
from modelstore.training.data import Message, Row
from modelstore.training.finetune import fine_tune
from modelstore.training.methods import within_memory
from modelstore.training.options import Step, TrainOptions, TrainResult
from modelstore.training.quiet import quiet
from tests.training.tiny import make_model

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
safetensors = pytest.importorskip("safetensors.torch")
load_file, save_file = safetensors.load_file, safetensors.save_file

ROWS = [
    *(Row((Message("user", f"What is {i}?"),), f"It is {i}.", f"a:{i}") for i in range(4)),
    Row("", "some text", "b:1"),
    Row("prompt", "completion", "b:2"),
]


def _train(base: Path, output: Path, **options: object) -> tuple[TrainResult, list[Step]]:
    steps: list[Step] = []
    settings = TrainOptions(**{"max_steps": 3, "device": "cpu", **options})  # type: ignore[arg-type]
    return fine_tune(base, ROWS, settings, output, steps.append), steps


@pytest.mark.parametrize("method", ["lora", "full"])
def test_only_the_weights_change(tiny_model: Path, tmp_path: Path, method: str) -> None:
    """The result has the base's tensors, dtypes and other files, and other values."""
    _train(tiny_model, tmp_path / "out", method=method, learning_rate=1e-2)
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert {n: (t.shape, t.dtype) for n, t in before.items()} == {
        n: (t.shape, t.dtype) for n, t in after.items()
    }
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert {path.name for path in tiny_model.iterdir()} == {
        path.name for path in (tmp_path / "out").iterdir()
    }
    for path in tiny_model.iterdir():
        if path.suffix != ".safetensors":
            assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_adapters_leave_the_embedding_alone(tiny_model: Path, tmp_path: Path) -> None:
    """Adapters are put on linear layers, so that an embedding costs a store nothing."""
    _train(tiny_model, tmp_path / "out", method="lora", learning_rate=1e-2)
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.endswith("_proj.weight") for name in changed)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_equal_seeds_give_equal_bytes(tiny_model: Path, tmp_path: Path, method: str) -> None:
    """On the CPU a run can be repeated to the bit, and another seed is another run."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _train(tiny_model, tmp_path / name, method=method, seed=seed, learning_rate=1e-2)
    first, again, other = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b", "c")
    )
    assert first == again
    assert first != other


def test_the_adapter_is_left_beside(tiny_model: Path, tmp_path: Path) -> None:
    """What was merged is there as PEFT saves it, and merging it again gives the same weights."""
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    settings = TrainOptions(max_steps=2, device="cpu", learning_rate=1e-2)
    fine_tune(tiny_model, ROWS, settings, tmp_path / "out", lambda _: None, tmp_path / "adapter")
    with quiet():
        base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model, dtype="auto")
        again = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").merge_and_unload()
    merged = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(merged[name], value) for name, value in again.named_parameters())


def test_an_adapter_predicts_what_was_merged(wide_model: Path, tmp_path: Path) -> None:
    """Base and adapter tell a merged tensor to the bit, but for the order of torch's sums."""
    settings = TrainOptions(max_steps=2, device="cpu", learning_rate=1e-2)
    adapter = tmp_path / "adapter"
    fine_tune(wide_model, ROWS, settings, tmp_path / "out", lambda _: None, adapter)
    before = load_file(wide_model / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    file, bf16 = (adapter / "adapter_model.safetensors").read_bytes(), dtype_named("BF16")
    found = read_adapter(adapter)
    assert len(found) == 2 * 7  # every linear layer of two blocks
    for one in found:
        left, right = (file[span.start : span.stop] for span in (one.left, one.right))
        base, merged = (t[one.weight].view(torch.uint16).numpy().ravel() for t in (before, after))
        factors = Factors.from_blobs(one.recipe, left, right)
        known = best_rounding(merged, base, bf16, factors)
        assert (predict(base, bf16, 0, known) != merged).mean() < 1e-3


def test_a_full_run_leaves_no_adapter(tiny_model: Path, tmp_path: Path) -> None:
    """There is none where every weight was trained."""
    settings = TrainOptions(max_steps=1, device="cpu", method="full")
    fine_tune(tiny_model, ROWS, settings, tmp_path / "out", lambda _: None, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_float32_and_shards_are_kept(tmp_path: Path) -> None:
    """A float32 base in shards without tied weights comes out as float32 with the same tensors."""
    base = make_model(tmp_path / "base", "float32", tied=False, shard="60KB")
    assert len(list(base.glob("*.safetensors"))) > 1
    _train(base, tmp_path / "out")
    names = {path.name for path in base.glob("*.safetensors*")}
    assert names == {path.name for path in (tmp_path / "out").glob("*.safetensors*")}
    for path in base.glob("*.safetensors"):
        before, after = load_file(path), load_file(tmp_path / "out" / path.name)
        assert set(before) == set(after)
        assert {tensor.dtype for tensor in after.values()} == {torch.float32}


def test_mixed_dtypes_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    """Each tensor gets the dtype that it had in the base, whatever the others have."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float() + 1e-6
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    _train(base, tmp_path / "out", method="lora")
    after = load_file(tmp_path / "out" / "model.safetensors")
    norm = after.pop("model.norm.weight")
    assert norm.dtype == torch.float32
    assert torch.equal(norm, tensors["model.norm.weight"])
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}


def test_a_pytorch_model_becomes_safetensors(tiny_model: Path, tmp_path: Path) -> None:
    """The pytorch_model.bin that older tools leave can be started from, and is not written."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "model.safetensors").unlink()
    torch.save(load_file(tiny_model / "model.safetensors"), base / "pytorch_model.bin")
    _train(base, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "model.safetensors" in names
    assert "pytorch_model.bin" not in names


def test_what_is_recorded(tiny_model: Path, tmp_path: Path) -> None:
    """Parameters, measurements and environment are plain numbers and strings that fit the run."""
    result, steps = _train(tiny_model, tmp_path / "out", batch_size=2, method="full")
    assert [step.number for step in steps] == [1, 2, 3]
    assert {step.total for step in steps} == {3}
    assert result.parameters["learning_rate"] == 2e-5
    assert result.parameters["device"] == "cpu"
    assert result.metrics["steps"] == 3
    assert result.metrics["samples"] == len(ROWS)
    assert result.metrics["tokens"] == steps[-1].tokens > 0
    assert result.metrics["loss"] == pytest.approx(sum(step.loss for step in steps) / 3, abs=1e-6)
    assert result.metrics["training_time"] > 0
    assert result.metrics["model_size"] == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert result.environment["torch"] == torch.__version__
    for recorded in (result.parameters, result.metrics, result.environment):
        assert all(type(value) in {int, float, str} for value in recorded.values())


def test_nothing_is_printed(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No library writes to the terminal, not even to its descriptors."""
    _train(tiny_model, tmp_path / "out")
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_weights_are_as_readable_as_other_files(tiny_model: Path, tmp_path: Path) -> None:
    """The umask decides about permissions; safetensors alone would hide the weights from servers."""
    before = os.umask(0o027)
    try:
        _train(tiny_model, tmp_path / "out")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert modes == {0o640}


def test_a_run_that_runs_away_is_ended(tiny_model: Path, tmp_path: Path) -> None:
    """A base whose loss is not a number ends the run, with what to try instead."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], math.nan)
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(DivergedError, match="step 1 is nan") as caught:
        _train(base, tmp_path / "out")
    assert "--learning-rate" in caught.value.hint


def test_the_last_layers_alone_are_trained(tiny_model: Path, tmp_path: Path) -> None:
    """Of the others no bit changes; and a model has only so many layers."""
    _train(tiny_model, tmp_path / "out", method="last-1", learning_rate=1e-2)
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("model.layers.1.") for name in changed)
    with pytest.raises(UsageError, match="2 layers, and the last 3"):
        _train(tiny_model, tmp_path / "other", method="last-3")


def test_activations_may_be_computed_again(tiny_model: Path, tmp_path: Path) -> None:
    """That takes time and no digit of the result."""
    for name, again in (("a", True), ("b", False)):
        options = {"activation_checkpointing": again, "learning_rate": 1e-2, "max_steps": 2}
        _train(tiny_model, tmp_path / name, method="full", **options)
    first, second = (tmp_path / name / "model.safetensors" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_four_bits_need_a_gpu(tiny_model: Path, tmp_path: Path) -> None:
    """That is said before the base is loaded, with what works instead."""
    with pytest.raises(UsageError, match="only a GPU") as caught:
        _train(tiny_model, tmp_path / "out", method="qlora")
    assert "--method lora" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"batch_size": 8}, "--batch-size 4 --gradient-accumulation 2"),
        ({"batch_size": 3, "gradient_accumulation": 2}, "--batch-size 1 --gradient-accumulation 6"),
        ({"method": "full"}, "--method lora"),
        ({"max_length": 512}, "--max-length 256"),
        ({"max_length": 16}, "a smaller base"),
    ],
)
def test_too_little_memory_names_the_next_smaller_setting(
    options: dict[str, object], flags: str
) -> None:
    """First the batch is halved, then fewer weights are trained, then samples are cut."""
    settings = TrainOptions(**options)  # type: ignore[arg-type]
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        with pytest.raises(StoreError, match="more memory") as caught, within_memory(settings):
            raise error
        assert caught.value.hint == f"train with {flags}"
    with pytest.raises(RuntimeError, match="else"), within_memory(settings):
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    ("missing", "problem"),
    [
        ("config.json", "has no config.json"),
        ("tokenizer.json", "has no tokenizer"),
        ("model.safetensors", "has no weights"),
    ],
)
def test_an_incomplete_base_is_refused(
    tiny_model: Path, tmp_path: Path, missing: str, problem: str
) -> None:
    """What a base lacks is said before anything is loaded."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / missing).unlink()
    with pytest.raises(UsageError, match=problem):
        _train(base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_shard_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    """Weights that are not all there, or that no format fits, are no base."""
    base = make_model(tmp_path / "base", tied=False, shard="30KB")
    shard = next(base.glob("*.safetensors"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(StoreError, match="no valid safetensors file"):
        _train(base, tmp_path / "out")
    shard.unlink()
    with pytest.raises(UsageError, match=shard.name):
        _train(base, tmp_path / "out")


def test_a_base_that_lacks_a_tensor_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """Where transformers would train random values in place of a missing tensor, we do not."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=r"lacks the tensor 'model\.norm\.weight'"):
        _train(base, tmp_path / "out")


def test_a_model_that_transformers_does_not_know_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Code that comes with a model is never run; the error names the directory."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "own.Own"}}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="transformers cannot load"):
        _train(base, tmp_path / "out")


def test_a_base_that_is_nowhere(tmp_path: Path) -> None:
    """A directory that does not exist is called that, and not a name on some hub."""
    with pytest.raises(NotFoundError, match="there is no directory"):
        _train(tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"max_steps": -1},
        {"learning_rate": 0.0},
        {"method": "prayer"},
        {"device": "abacus"},
    ],
)
def test_options_have_ranges(wrong: dict[str, object]) -> None:
    """An option outside its range is named."""
    with pytest.raises(UsageError, match=next(iter(wrong))):
        TrainOptions(**wrong)  # type: ignore[arg-type]

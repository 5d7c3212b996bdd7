"""The Python API does what the command line does, on values instead of text."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import modelstore
from modelstore.errors import NoStoreError, NotFoundError, UsageError
from modelstore.ops.init import init
from tests.builders import Values, safetensors_bytes
from tests.models import files_of, weights, write_model


@pytest.fixture
def opened(tmp_path: Path) -> modelstore.ModelStore:
    """A store with two versions of llama_1b, opened."""
    init(tmp_path / "tuned_models")
    opened = modelstore.open(tmp_path / "tuned_models")
    opened.commit(write_model(tmp_path / "a"), "llama_1b", "first", metrics={"loss": 2.5})
    opened.commit(write_model(tmp_path / "b", step=1e-3), "llama_1b", message="second")
    return opened


def test_importing_loads_neither_numpy_nor_torch() -> None:
    """A script that only looks at versions starts at once."""
    code = (
        "import sys, modelstore; modelstore.open; "
        "print([m for m in ('numpy', 'numba', 'torch', 'filelock', 'click') if m in sys.modules])"
    )
    root = Path(modelstore.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    """What ``__all__`` promises can be had, and nothing else is made up."""
    for name in modelstore.__all__:
        assert getattr(modelstore, name) is not None
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = modelstore.nothing


def test_a_store_is_opened_by_path_or_found(
    opened: modelstore.ModelStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is the place itself, one around it, or beside it, as from the current directory."""
    monkeypatch.chdir(tmp_path)
    assert modelstore.open().models() == opened.models() == ["llama_1b", "llama_8b"]
    monkeypatch.chdir(opened.store.root / "llama_1b" / "v1.0")
    assert modelstore.open().store.root == opened.store.root
    for place in (tmp_path, tmp_path / "a", opened.store.root / "llama_1b"):
        assert modelstore.open(place).store.root == opened.store.root
    with pytest.raises(NoStoreError, match="there is no directory"):
        modelstore.open(tmp_path / "mistyped")


def test_a_listing_of_the_module_has_its_names() -> None:
    """A shell that completes sees what is loaded later, too."""
    assert set(modelstore.__all__) <= set(dir(modelstore))
    code = "import modelstore; assert {'open', 'ModelStore'} <= set(dir(modelstore))"
    root = Path(modelstore.__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_a_pattern_may_stand_alone(opened: modelstore.ModelStore, tmp_path: Path) -> None:
    """One pattern is one pattern, and not one for each of its letters."""
    some = opened.checkout("v1.1", tmp_path / "some", files="c*.json")
    assert some.written == ("config.json",)
    assert opened.load("v1.1", files="*.safetensors").keys() == opened.load("v1.1").keys()
    assert opened.reader("v1.1", files="*.safetensors").keys()
    with pytest.raises(NotFoundError, match=r"no file that fits '\*\.gguf'"):
        opened.load("v1.1", files="*.gguf")


def test_weights_that_cannot_be_read_are_no_empty_model(
    opened: modelstore.ModelStore, tmp_path: Path
) -> None:
    """The error names the version, and the way to its files."""
    write_model(tmp_path / "cut", files={"model.safetensors": b"\x10\0\0\0\0\0\0\0{"})
    opened.commit(tmp_path / "cut", "cut")
    for read in (opened.load, opened.reader):
        with pytest.raises(NotFoundError, match=r"from model\.safetensors") as caught:
            read("cut@v1.0")
        assert caught.value.hint.endswith("mstore checkout cut@v1.0 -o DIR")


def test_versions_are_listed_newest_first(opened: modelstore.ModelStore) -> None:
    """Rows are plain values, which JSON can hold."""
    rows = opened.log("llama_1b")
    assert [(row["version"], row["message"], row["active"]) for row in rows] == [
        ("v1.1", "second", False),
        ("v1.0", "first", True),
    ]
    assert opened.log(limit=1) == rows[:1]
    json.dumps(rows)


def test_an_unknown_option_of_commit_is_a_usage_error(
    opened: modelstore.ModelStore, tmp_path: Path
) -> None:
    """A mistyped option is not silently dropped."""
    with pytest.raises(UsageError, match="metrik"):
        opened.commit(tmp_path / "a", "llama_1b", metrik={})


def test_an_adapter_that_is_not_there_is_said(
    opened: modelstore.ModelStore, tmp_path: Path
) -> None:
    """The adapter of a merge is a path like any other, as text too."""
    with pytest.raises(NotFoundError, match=r"holds no adapter_config\.json"):
        opened.commit(tmp_path / "a", "llama_1b", adapter=str(tmp_path / "b"))


def test_a_checkout_is_what_was_committed(opened: modelstore.ModelStore, tmp_path: Path) -> None:
    """Files come out byte for byte, all of them or those that fit a pattern."""
    done = opened.checkout("v1.1", tmp_path / "out")
    assert files_of(done.path) == files_of(tmp_path / "b")
    some = opened.checkout("v1.1", str(tmp_path / "some"), files=["config.json"])
    assert some.written == ("config.json",)
    assert opened.read_file("v1.1", "config.json") == (tmp_path / "b" / "config.json").read_bytes()
    with pytest.raises(NotFoundError, match=r"'x\.json'"):
        opened.read_file("v1.1", "x.json")


def test_active_is_moved_and_moved_back(opened: modelstore.ModelStore) -> None:
    """set_active and rollback change what active, and the ref ACTIVE, mean."""
    assert opened.set_active("v1.1", expect="v1.0").before == "v1.0"
    assert str(opened.active()) == str(opened.resolve()) == "llama_1b@v1.1"
    assert opened.rollback("llama_1b").after == "v1.0"
    assert str(opened.active("llama_1b")) == "llama_1b@v1.0"


def test_versions_are_compared_checked_and_measured(opened: modelstore.ModelStore) -> None:
    """diff, verify and usage are those of the command line."""
    assert len(opened.diff("v1.0", "v1.1").tensors) == 3
    assert opened.diff("llama_1b@v1.0").same_content
    assert opened.verify("v1.1").sound
    assert len(opened.usage().versions) == 2


def test_versions_are_removed_brought_back_and_collected(opened: modelstore.ModelStore) -> None:
    """What a policy removes is as removable, and as undeletable, as what is named."""
    assert [str(one) for one in opened.rm("v1.1", why="bad").versions] == ["llama_1b@v1.1"]
    assert [row["version"] for row in opened.log()] == ["v1.0"]
    assert str(opened.undelete("v1.1").resolved) == "llama_1b@v1.1"
    opened.set_active("v1.1")
    assert opened.gc(keep_within="1h").versions == ()
    done = opened.gc(keep_best=["0:loss"], keep_last=1)
    assert [str(one) for one in done.versions] == ["llama_1b@v1.0"]
    assert opened.undelete("v1.0").blobs > 0
    assert opened.verify("v1.0").sound
    with pytest.raises(UsageError):
        opened.gc(keep_within="soon")


def test_tensors_are_loaded_as_numpy_or_torch(opened: modelstore.ModelStore) -> None:
    """Both frameworks give the values that were written."""
    torch = pytest.importorskip("torch")
    expected = weights(1, step=1e-3)
    arrays = opened.load("v1.1")
    tensors = opened.load("v1.1", "torch")
    assert list(arrays) == list(tensors) == list(expected)
    for name, one in expected.items():
        assert arrays[name].tobytes() == one.data
        assert tensors[name].dtype == torch.float32
        assert tensors[name].numpy().tobytes() == one.data


def test_loaded_tensors_are_what_safetensors_loads(
    opened: modelstore.ModelStore, tmp_path: Path
) -> None:
    """For bfloat16 and float8 the torch tensors equal those of safetensors, the arrays their values."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    written = {
        "bf16": torch.randn(7, 5).bfloat16(),
        "fp8": torch.randn(64).to(torch.float8_e5m2),
        "half": torch.randn(3).half(),
    }
    save_file(written, tmp_path / "model.safetensors", metadata={"format": "pt"})
    opened.commit(tmp_path / "model.safetensors", "small")
    tensors = opened.load("small@v1.0", framework="torch")
    arrays = opened.load("small@v1.0")
    bits = opened.load("small@v1.0", raw=True)
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name].view(torch.uint8), tensor.view(torch.uint8))
        np.testing.assert_array_equal(arrays[name], tensor.float().numpy())
    assert (bits["bf16"].dtype, bits["fp8"].dtype) == (np.uint16, np.uint8)
    assert bits["half"].dtype == np.float16


def test_a_reader_gives_what_safe_open_gives(opened: modelstore.ModelStore, tmp_path: Path) -> None:
    """Keys, metadata, tensors and slices are those of safetensors."""
    safetensors = pytest.importorskip("safetensors")
    one = Values("F32", (6, 4), np.arange(24, dtype="<f4").tobytes())
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({"w": one}, {"format": "pt"}))
    opened.commit(path, "small")
    with (
        opened.reader("small@ACTIVE") as ours,
        safetensors.safe_open(path, framework="np") as theirs,
    ):
        assert ours.keys() == list(theirs.keys())
        assert ours.metadata() == theirs.metadata()
        assert ours.get_slice("w").get_shape() == theirs.get_slice("w").get_shape()
        assert ours.get_slice("w").get_dtype() == theirs.get_slice("w").get_dtype()
        np.testing.assert_array_equal(ours.get_tensor("w"), theirs.get_tensor("w"))
        np.testing.assert_array_equal(ours.get_slice("w")[1:3], theirs.get_slice("w")[1:3])
        np.testing.assert_array_equal(ours.get_slice("w")[:, 2], theirs.get_slice("w")[:, 2])


@pytest.mark.parametrize(("framework", "raw"), [("jax", False), ("torch", True)])
def test_frameworks_that_are_not_there_are_refused(
    opened: modelstore.ModelStore, framework: str, raw: bool
) -> None:
    """Only numpy and torch, and raw only where it means something."""
    with pytest.raises(UsageError):
        opened.load("v1.0", framework, raw=raw)  # type: ignore[arg-type]


def test_a_version_becomes_a_model_of_transformers(
    opened: modelstore.ModelStore, tmp_path: Path
) -> None:
    """The model computes what one loaded from a plain directory computes, and no file is left."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "tiny")
    opened.commit(tmp_path / "tiny", "tiny")
    before = files_of(opened.store.root)
    shutil.rmtree(opened.store.meta / "tmp")  # what is only read needs no room to write
    model = opened.from_pretrained("tiny@v1.0")
    plain = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "tiny")
    ids = torch.arange(8).reshape(1, 8)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, plain(ids).logits)
    assert files_of(opened.store.root) == before
    assert not (opened.store.meta / "tmp").exists()


def test_a_store_is_pushed_and_cloned(opened: modelstore.ModelStore, tmp_path: Path) -> None:
    """The verbs of remotes are methods, and a lazy clone loads what it needs."""
    url = str(tmp_path / "remote")
    opened.add_remote("origin", url)
    assert [one.url for one in opened.remotes()] == [url]
    assert {one.outcome for one in opened.push()} == {"new"}
    lazy = modelstore.clone(url, tmp_path / "clone", lazy=True)
    assert lazy.models() == [str(one.model) for one in opened.fetch()]
    assert lazy.load("v1.0").keys() == opened.load("v1.0").keys()
    assert {one.outcome for one in lazy.pull()} == {"same"}


def test_a_dry_run_moves_nothing(opened: modelstore.ModelStore, tmp_path: Path) -> None:
    """It says what push, fetch and pull would do, and both sides stay as they are."""
    url = str(tmp_path / "remote")
    opened.add_remote("origin", url)
    assert {one.outcome for one in opened.push(dry_run=True)} == {"new"}
    assert {one.outcome for one in opened.push()} == {"new"}
    other = modelstore.clone(url, tmp_path / "clone")
    opened.commit(write_model(tmp_path / "c", step=2e-3), "llama_1b", message="third")
    opened.push()
    before = files_of(other.store.root)
    assert [one.new for one in other.fetch(dry_run=True)] == [("v1.2",)]
    assert [one.outcome for one in other.pull(dry_run=True)] == ["forward"]
    assert files_of(other.store.root) == before


def test_files_come_back_from_a_backup(opened: modelstore.ModelStore, tmp_path: Path) -> None:
    """One version of a backup becomes a plain directory, byte for byte."""
    opened.backup(str(tmp_path / "backup"))
    plan = opened.restore_files(str(tmp_path / "backup"), "llama_1b@v1.0", tmp_path / "plain")
    assert plan.ref == "llama_1b@v1.0"
    opened.checkout("llama_1b@v1.0", tmp_path / "out")
    assert files_of(tmp_path / "plain") == files_of(tmp_path / "out")

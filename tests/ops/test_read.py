"""What is read from the store equals what went in: safetensors and torch are the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from modelstore import disk
from modelstore.errors import IntegrityError, NotFoundError
from modelstore.formats.base import Tensor
from modelstore.integrations.tensors import TorchTensors
from modelstore.manifest import Manifest
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.read import Reader, load, tensors_by_name
from modelstore.ops.resolve import resolve
from modelstore.store import Store, create
from modelstore.values import NumpyArrays
from tests.builders import (
    BITS,
    Values,
    gguf_bytes,
    pickle_bytes,
    pickled_tensor,
    safetensors_bytes,
    torch_bytes,
    torch_with_pickle,
    values,
)
from tests.strategies import File, safetensors_files, torch_files

torch = pytest.importorskip("torch")

RAW = NumpyArrays(raw=True)


def version_of(root: Path, files: Mapping[str, bytes]) -> tuple[Store, Manifest]:
    """Commit ``files`` to a store at ``root`` and return it with the version's manifest."""
    store = create(root / "tuned_models")
    for path, data in files.items():
        (root / "model" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "model" / path).write_bytes(data)
    commit(store, root / "model", ModelName("llama_1b"), CommitOptions(message="a test"))
    resolved = resolve(store, "llama_1b@latest")
    return store, store.manifest(resolved.model, resolved.entry)


def bits_of(tensor: Any) -> bytes:
    """Return the bytes of a torch tensor, row-major."""
    return bytes(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())


def assert_holds(found: Mapping[str, Any], expected: Mapping[str, Values]) -> None:
    """Check names, shapes and bytes of raw numpy arrays."""
    assert set(found) == set(expected)
    for name, one in expected.items():
        assert found[name].tobytes() == one.data
        if BITS[one.dtype] % 8 == 0:
            assert found[name].shape == one.shape


@settings(max_examples=15)
@given(safetensors_files)
def test_a_safetensors_file_is_loaded_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, file: File
) -> None:
    """Every tensor of every dtype comes back with its shape and bytes."""
    store, manifest = version_of(tmp_path_factory.mktemp("v"), {"model.safetensors": file[0]})
    assert_holds(load(store, manifest, RAW), file[1])


@settings(max_examples=15)
@given(torch_files)
def test_a_torch_file_is_loaded_as_torch_loads_it(
    tmp_path_factory: pytest.TempPathFactory, file: File
) -> None:
    """Names, dtypes, shapes and bytes are those of the tensors that went in."""
    store, manifest = version_of(tmp_path_factory.mktemp("v"), {"pytorch_model.bin": file[0]})
    found = load(store, manifest, TorchTensors())
    for name, one in file[1].items():
        assert bits_of(found[name]) == one.data
        assert tuple(found[name].shape) == one.shape


def test_torch_tensors_have_the_dtypes_that_torch_saved(tmp_path: Path) -> None:
    """What torch.save wrote comes back equal, dtype included, and can be written to."""
    saved = {
        "bf16": torch.randn(3, 4).bfloat16(),
        "fp8": torch.randn(8).to(torch.float8_e4m3fn),
        "bool": torch.tensor([True, False]),
        "complex": torch.randn(2, dtype=torch.complex64),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(2.5),
    }
    torch.save(saved, tmp_path / "model.bin")
    store, manifest = version_of(tmp_path, {"model.bin": (tmp_path / "model.bin").read_bytes()})
    found = load(store, manifest, TorchTensors())
    for name, tensor in saved.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert bits_of(found[name]) == bits_of(tensor)
    found["bf16"].zero_()


def test_tied_tensors_share_one_array_and_equal_ones_do_not(tmp_path: Path) -> None:
    """Names of one storage stay tied; layers that happen to be equal have memory of their own."""
    weight = torch.arange(6.0).reshape(2, 3)
    saved = {"a": weight, "tied": weight, "equal": weight.clone()}
    torch.save(saved, tmp_path / "model.bin")
    store, manifest = version_of(tmp_path, {"model.bin": (tmp_path / "model.bin").read_bytes()})
    for arrays in (NumpyArrays(), TorchTensors()):
        found = load(store, manifest, arrays)
        assert found["a"] is found["tied"]
        found["a"][0, 0] = 9
        assert found["tied"][0, 0] == 9
        assert found["equal"][0, 0] == 0


def test_strided_views_come_out_as_torch_has_them(tmp_path: Path) -> None:
    """A transposed tensor and overlapping rows of one storage have their values and shapes."""
    whole = torch.arange(24.0).reshape(4, 6)
    saved = {"turned": whole.t(), "rows": whole[1:3], "column": whole[:, 2]}
    torch.save(saved, tmp_path / "model.bin")
    store, manifest = version_of(tmp_path, {"model.bin": (tmp_path / "model.bin").read_bytes()})
    for arrays in (NumpyArrays(), TorchTensors()):
        found = load(store, manifest, arrays)
        for name, tensor in saved.items():
            np.testing.assert_array_equal(np.asarray(found[name]), tensor.numpy())


def test_a_version_without_weights_is_not_an_empty_one(tmp_path: Path) -> None:
    """Loading what holds none is an error; a file of no tensors is loaded as what it is."""
    store, manifest = version_of(tmp_path / "a", {"notes.txt": b"x"})
    with pytest.raises(NotFoundError, match="v1 has no weights file"):
        load(store, manifest, RAW, ref="v1")
    store, manifest = version_of(tmp_path / "b", {"model.safetensors": safetensors_bytes({})})
    assert load(store, manifest, RAW) == {}


def test_half_a_model_is_no_model(tmp_path: Path) -> None:
    """A shard that cannot be read is named; a trainer's arguments in a .bin are no weights."""
    whole = safetensors_bytes({"w": Values("F32", (1,), b"\0\0\x80\x3f")})
    first, second = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
    store, manifest = version_of(tmp_path / "a", {first: whole, second: whole[:-1]})
    with pytest.raises(NotFoundError, match=second) as caught:
        load(store, manifest, RAW, ref="m@v1.0")
    assert first not in str(caught.value)
    assert set(load(store, manifest, RAW, [first])) == {"w"}
    files = {"model.safetensors": whole, "arguments.bin": b"no tensors"}
    store, manifest = version_of(tmp_path / "b", files)
    assert set(load(store, manifest, RAW)) == {"w"}


def test_a_storage_with_bytes_to_spare_is_read(tmp_path: Path) -> None:
    """A view of wider values in a storage of odd length ends where whole values end."""
    pickle = pickle_bytes({"w": pickled_tensor("0", "F32", 2, (2, 1), (1, 1))})
    data = torch_with_pickle(pickle, [np.array([1, 2], "<f4").tobytes()])
    store, manifest = version_of(tmp_path, {"pytorch_model.bin": data})
    assert load(store, manifest, NumpyArrays())["w"].tolist() == [[1], [2]]


def test_shards_are_merged_and_safetensors_goes_before_torch(tmp_path: Path) -> None:
    """One mapping holds all shards; a name that a .bin has too is read from safetensors."""
    files = {
        "model-00001-of-00002.safetensors": safetensors_bytes({"a": values("F32", 2, seed=1)}),
        "model-00002-of-00002.safetensors": safetensors_bytes({"b": values("F32", 2, seed=2)}),
        "pytorch_model.bin": torch_bytes({"a": values("F32", 2, seed=9), "c": values("I8", 1)}),
    }
    store, manifest = version_of(tmp_path, files)
    found = load(store, manifest, RAW)
    assert set(found) == {"a", "b", "c"}
    assert found["a"].tobytes() == values("F32", 2, seed=1).data
    chosen = load(store, manifest, RAW, files=["*.bin"])
    assert chosen["a"].tobytes() == values("F32", 2, seed=9).data


def test_the_shortest_file_name_has_the_name_and_directories_are_part_of_it(
    tmp_path: Path,
) -> None:
    """model.safetensors goes before model.fp16.safetensors, and unet/w is not vae/w."""
    one, other = values("F32", 2, seed=1), values("F16", 2, seed=2)
    files = {
        "model.safetensors": safetensors_bytes({"w": one}),
        "model.fp16.safetensors": safetensors_bytes({"w": other}),
        "unet/model.safetensors": safetensors_bytes({"w": values("F32", 3)}),
        "vae/model.safetensors": safetensors_bytes({"w": values("F32", 4)}),
    }
    _, manifest = version_of(tmp_path, files)
    located = tensors_by_name(manifest)
    assert {name: found.file.path for name, found in located.items()} == {
        "w": "model.safetensors",
        "unet/w": "unet/model.safetensors",
        "vae/w": "vae/model.safetensors",
    }


def test_packed_tensors_are_their_bytes(tmp_path: Path) -> None:
    """GGUF blocks come as uint8 in one dimension, in numpy and in torch."""
    block = Values("Q4_0", (1, 32), bytes(range(18)))
    store, manifest = version_of(tmp_path, {"model.gguf": gguf_bytes({"w": block})})
    assert load(store, manifest, NumpyArrays())["w"].tolist() == list(range(18))
    assert load(store, manifest, TorchTensors())["w"].tolist() == list(range(18))


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """A reader of a version with a matrix of 20 rows, a scalar and a packed tensor."""
    matrix = Values(
        "BF16", (20, 4), torch.arange(80.0).bfloat16().view(torch.uint8).numpy().tobytes()
    )
    file = safetensors_bytes(
        {"m": matrix, "s": values("F32"), "p": values("F4", 2, 4)}, {"format": "pt"}
    )
    return Reader(*version_of(tmp_path, {"model.safetensors": file}), NumpyArrays())


def test_a_reader_is_read_like_a_safetensors_file(reader: Reader) -> None:
    """Names, metadata, shapes and dtypes are those of the file's header."""
    with reader as opened:
        assert opened.keys() == ["m", "s", "p"]
        assert opened.metadata() == {"format": "pt"}
        assert opened.get_slice("m").get_shape() == [20, 4]
        assert opened.get_slice("m").get_dtype() == "BF16"
        assert opened.get_tensor("m").shape == (20, 4)


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        slice(3, 7),
        slice(-3, None),
        slice(2, 15, 4),
        slice(9, 2),
        slice(None, None, -1),
        (slice(1, 3), 2),
        (4, slice(1, 3)),
        (slice(None), -1),
        [1, 5],
        ...,
        (),
        np.int64(3),
    ],
    ids=repr,
)
def test_a_slice_is_what_the_whole_array_gives(reader: Reader, index: Any) -> None:
    """Whatever index numpy takes, a slice gives the same values."""
    whole = reader.get_tensor("m")
    np.testing.assert_array_equal(reader.get_slice("m")[index], whole[index])


def test_slices_of_scalars_and_packed_tensors_are_their_arrays(reader: Reader) -> None:
    """Where there are no rows to choose from, the whole is read."""
    assert reader.get_slice("s")[()] == reader.get_tensor("s")
    assert reader.get_slice("p")[:2].tolist() == reader.get_tensor("p")[:2].tolist()


def test_rows_out_of_range_and_unknown_names_are_errors(reader: Reader) -> None:
    """A row that is not there is an IndexError, a name that is not there a LookupError."""
    with pytest.raises(IndexError, match="20"):
        reader.get_slice("m")[20]
    with pytest.raises(NotFoundError, match="'x'"):
        reader.get_tensor("x")


def test_a_slice_reads_only_the_blocks_it_needs(tmp_path: Path) -> None:
    """With the last block of a frame damaged the first rows can be read, and the last cannot."""
    store = create(tmp_path / "tuned_models")
    store.blobs.block_log2 = 4
    (tmp_path / "model.safetensors").write_bytes(
        safetensors_bytes({"w": Values("F32", (16, 8), np.random.default_rng(1).bytes(512))})
    )
    commit(store, tmp_path / "model.safetensors", ModelName("llama_1b"), CommitOptions())
    resolved = resolve(store, "latest")
    manifest = store.manifest(resolved.model, resolved.entry)
    blob = tensors_by_name(manifest)["w"].span.blob
    path = store.blobs.path(blob)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    disk.replace(path, bytes(data))
    rows = Reader(store, manifest, NumpyArrays()).get_slice("w")
    assert rows[:2].shape == (2, 8)
    with pytest.raises(IntegrityError):
        rows[-1]
    with pytest.raises(IntegrityError):
        load(store, manifest, NumpyArrays())


def test_patterns_that_fit_no_file_are_an_error(tmp_path: Path) -> None:
    """A mistyped pattern does not load nothing in silence."""
    version = version_of(tmp_path, {"model.safetensors": safetensors_bytes({"w": values("I8", 1)})})
    with pytest.raises(NotFoundError, match="bin"):
        load(*version, NumpyArrays(), files=["*.bin"])


def test_tensors_reach_torch_in_their_shape() -> None:
    """A flat tensor of no values takes any shape without values."""
    flat = TorchTensors().flat(bytearray(), "F32")
    assert TorchTensors().shaped(flat, Tensor("w", "F32", (0, 3))).shape == (0, 3)

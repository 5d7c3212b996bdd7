"""torch.distributed.checkpoint saves into a store and loads from it, unchanged."""

from __future__ import annotations

import io
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import modelstore
from modelstore.api import ModelStore
from modelstore.errors import ConflictError, NotFoundError, UsageError
from modelstore.ops.init import init

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402
import torch.distributed.checkpoint as dcp  # noqa: E402
from torch.distributed.checkpoint.api import CheckpointException  # noqa: E402
from torch.distributed.checkpoint.planner import LoadPlan  # noqa: E402
from torch.distributed.checkpoint.state_dict import get_state_dict  # noqa: E402

from modelstore.integrations.distributed import StoreReader, StoreWriter  # noqa: E402
from modelstore.integrations.shards import require_plain  # noqa: E402

LINE = "llama_8b"


@pytest.fixture(scope="module", autouse=True)
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A world of one rank."""
    file = tmp_path_factory.mktemp("world") / "store"
    dist.init_process_group("gloo", store=dist.FileStore(str(file), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """An empty store."""
    init(tmp_path / "tuned_models")
    return modelstore.open(tmp_path / "tuned_models")


class Job:
    """A small model with its optimizer, one step trained."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
        self.model.register_buffer("count", torch.tensor(3))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.step()

    def step(self) -> None:
        """Train."""
        self.model(torch.ones(2, 64)).square().sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        weights, moments = get_state_dict(self.model, self.optimizer)
        rest = {"done": 5, "names": ["a", ("b", None)], "empty": torch.empty(0, 4)}
        return {"model": weights, "optim": moments, **rest}


def _emptied(state: Any) -> Any:
    """Return a state of the same form with nothing in it."""
    if isinstance(state, dict):
        return {name: _emptied(value) for name, value in state.items()}
    return torch.zeros_like(state) if isinstance(state, torch.Tensor) else state


def _assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            _assert_equal(one[name], other[name])
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    else:
        assert one == other


def test_a_saved_state_comes_back(store: ModelStore) -> None:
    """Weights, moments and plain values are loaded bit by bit, by torch's own functions."""
    job = Job()
    writer = StoreWriter(store, LINE, "first", metrics={"loss": 1.5}, parameters={"lr": 1e-3})
    dcp.save(job.state(), storage_writer=writer)
    assert writer.version == f"{LINE}@v1.0"
    state = _emptied(job.state()) | {"done": 0, "names": []}
    dcp.load(state, storage_reader=StoreReader(store, writer.version))
    _assert_equal(state, job.state())
    (row,) = store.log(LINE)
    assert (row["message"], row["metrics"]["loss"]) == ("first", 1.5)
    assert row["training_parameters"] == {"lr": 0.001}
    assert store.verify(writer.version).problems == ()


def test_a_checkpoint_is_named_by_its_id(store: ModelStore) -> None:
    """The checkpoint_id of a save is its message; that of a load is the ref."""
    job = Job()
    writer = StoreWriter(store, LINE, activate=True)
    for step in (1, 2):
        job.step()
        dcp.save(job.state(), checkpoint_id=f"step {step}", storage_writer=writer)
    rows = store.log(LINE)
    assert [(row["message"], row["active"]) for row in rows] == [
        ("step 2", True),
        ("step 1", False),
    ]
    state = _emptied(job.state())
    dcp.load(state, checkpoint_id=f"{LINE}@v1.1", storage_reader=StoreReader(store))
    _assert_equal(state, job.state())


def test_saving_in_the_background(store: ModelStore) -> None:
    """dcp.async_save saves the state as it was when it was called."""
    job = Job()
    before = {name: value.clone() for name, value in job.model.state_dict().items()}
    writer = StoreWriter(store, LINE)
    future = dcp.async_save(job.state(), storage_writer=writer)
    job.step()
    future.result()
    state = {"model": _emptied(before)}
    dcp.load(state, storage_reader=StoreReader(store, writer.version))
    _assert_equal(state["model"], before)


def test_what_did_not_change_costs_nothing(store: ModelStore) -> None:
    """A second save without a change makes no version; with one layer changed it adds that."""
    job = Job()
    writer = StoreWriter(store, LINE)
    dcp.save(job.state(), storage_writer=writer)
    dcp.save(job.state(), storage_writer=writer)
    assert writer.version == f"{LINE}@v1.0"
    with torch.no_grad():
        job.model[1].weight[0, 0] += 1
    before = set(store.store.blobs.iter_digests())
    dcp.save(job.state(), storage_writer=writer)
    added = set(store.store.blobs.iter_digests()) - before
    manifest = store.store.manifest(LINE, store.resolve(writer.version).entry)
    tensors = {t.name for _, span, t in manifest.tensors() if span.blob in added}
    assert tensors == {"model.1.weight"}
    (changed,) = (span for _, span, t in manifest.tensors() if t.name == "model.1.weight")
    assert store.store.blobs.header(changed.blob).depth == 1  # made against the one before


def test_the_files_are_plain_safetensors(store: ModelStore, tmp_path: Path) -> None:
    """What is checked out can be read by others, and committed again it is the same version."""
    load_file = pytest.importorskip("safetensors.torch").load_file
    job = Job()
    dcp.save(job.state(), storage_writer=StoreWriter(store, LINE))
    store.checkout(f"{LINE}@v1.0", tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "rank-00000.safetensors")
    assert torch.equal(tensors["model.0.weight"], job.model[0].weight)
    assert torch.equal(store.load(f"{LINE}@v1.0", "torch")["model.count"], torch.tensor(3))
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    assert not store.commit(tmp_path / "copy", LINE).created
    listed = store.store.manifest(LINE, store.resolve(f"{LINE}@v1.0").entry).files
    store.commit(tmp_path / "copy", "copied", allow_empty=True)
    assert store.store.manifest("copied", store.resolve("copied@v1.0").entry).files == listed


@pytest.mark.parametrize("sharding", [(slice(0, 5), slice(0, 8)), (slice(2, 7), slice(3, 4))])
def test_any_part_of_any_version_can_be_read(
    store: ModelStore, tmp_path: Path, sharding: tuple[slice, ...]
) -> None:
    """A version that others made is read by its tensors' names, in any box of them."""
    save_file = pytest.importorskip("safetensors.torch").save_file
    (tmp_path / "model").mkdir()
    values = torch.arange(56, dtype=torch.bfloat16).view(7, 8)
    save_file({"w": values, "b": torch.ones(())}, tmp_path / "model" / "model.safetensors")
    store.commit(tmp_path / "model", LINE)
    reader = StoreReader(store, f"{LINE}@v1.0")
    metadata = reader.read_metadata()
    assert set(metadata.state_dict_metadata) == {"w", "b"}
    state = {"w": torch.zeros(7, 8, dtype=torch.bfloat16), "b": torch.zeros(())}
    dcp.load(state, storage_reader=reader)
    assert torch.equal(state["w"], values)
    assert state["b"] == 1
    (chunk,) = (i for i in metadata.storage_data if i.fqn == "w")
    box = [(s.start, s.stop - s.start) for s in sharding]
    found = reader._checkpoint
    rows = found.rows(found.chunk(chunk), sharding[0].start, sharding[0].stop)
    part = rows.part([start for start, _ in box], [length for _, length in box])
    assert torch.equal(part, values[sharding])


class Secret:
    """Something that only a free unpickling could bring back."""


def test_nothing_is_saved_that_would_have_to_be_unpickled(store: ModelStore) -> None:
    """An object of a class is refused when it is saved, and no version is made."""
    with pytest.raises(CheckpointException) as raised:
        dcp.save({"x": Secret()}, storage_writer=StoreWriter(store, LINE))
    (error,) = (failure for failure, _ in raised.value.failures.values())
    assert isinstance(error, UsageError)
    assert "'x' holds more than plain values" in error.message
    assert "add_safe_globals" in error.hint
    assert store.log(LINE) == []


class Bomb:
    """Goes off when it is unpickled."""

    def __reduce__(self) -> Any:
        """Raise when loaded."""
        return eval, ("1/0",)


def test_nothing_is_loaded_that_runs_code(store: ModelStore, tmp_path: Path) -> None:
    """A pickle that somebody put in place of an item is not handed to torch's planner."""
    dcp.save({"x": "value"}, storage_writer=StoreWriter(store, LINE))
    store.checkout(f"{LINE}@v1.0", tmp_path / "out")
    items = tmp_path / "out" / "rank-00000.items"
    bomb = pickle.dumps(Bomb()).ljust(items.stat().st_size - 15, b"\0")
    items.write_bytes(items.read_bytes()[:15] + bomb)
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    store.commit(tmp_path / "copy", LINE)
    with pytest.raises(CheckpointException) as raised:
        dcp.load({"x": ""}, storage_reader=StoreReader(store, f"{LINE}@v1.1"))
    (error,) = (failure for failure, _ in raised.value.failures.values())
    assert isinstance(error, UsageError)


def test_plain_values_pass() -> None:
    """What optimizers and samplers hold is plain; bytes that are no such value are not."""
    for value in ({"lr": 1e-3, "betas": (0.9, 0.99), "fused": None}, torch.ones(2), b"raw"):
        buffer = io.BytesIO()
        torch.save(value, buffer)
        require_plain(buffer.getvalue(), "x")
    with pytest.raises(UsageError):
        require_plain(b"", "x")


def test_a_dtype_that_no_file_can_hold_is_refused(store: ModelStore) -> None:
    """The error names the tensor."""
    with pytest.raises(CheckpointException, match=r"'w' is a tensor of torch\.complex128"):
        dcp.save(
            {"w": torch.ones(2, dtype=torch.complex128)}, storage_writer=StoreWriter(store, LINE)
        )


def test_odd_tensors_come_back(store: ModelStore) -> None:
    """Views, conjugates, tied and empty tensors and odd names are saved as their values."""
    base = torch.arange(24.0).view(4, 6)
    state = {
        "transposed": base.t(),
        "column": base[:, 2],
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "tied": base,
        "ünï [0:1]": base[1:3, ::2].to(torch.float8_e4m3fn),
        "flag": torch.tensor([True, False]),
        "nothing": torch.empty(3, 0, 2),
    }
    dcp.save(state, storage_writer=StoreWriter(store, LINE))
    found = {name: torch.zeros_like(value).contiguous() for name, value in state.items()}
    found["conjugate"] = torch.zeros(1, dtype=torch.complex64)
    dcp.load(found, storage_reader=StoreReader(store, f"{LINE}@v1.0"))
    for name, value in state.items():
        assert torch.equal(
            found[name].float() if "ü" in name else found[name],
            value.float() if "ü" in name else value.resolve_conj(),
        ), name


def test_without_a_process_group(store: ModelStore) -> None:
    """A single process may save and load as well; that torch warns of it is torch's."""
    with pytest.warns(UserWarning, match="single process"):
        dcp.save({"w": torch.ones(2)}, storage_writer=StoreWriter(store, LINE), no_dist=True)
    state = {"w": torch.zeros(2)}
    with pytest.warns(UserWarning, match="single process"):
        dcp.load(state, storage_reader=StoreReader(store, f"{LINE}@v1.0"), no_dist=True)
    assert torch.equal(state["w"], torch.ones(2))


def test_errors_of_use(store: ModelStore) -> None:
    """What cannot be is refused by name, before anything is written."""
    with pytest.raises(UsageError, match="mood"):
        StoreWriter(store, LINE, mood="good")
    with pytest.raises(UsageError, match="move is for a commit of files"):
        StoreWriter(store, LINE, move=True)
    with pytest.raises(NotFoundError):
        StoreReader(store, f"{LINE}@v9.9")
    with pytest.raises(UsageError, match="made by all ranks together"):
        dcp.save(
            {"w": torch.ones(1)}, storage_writer=StoreWriter(store, LINE), use_collectives=False
        )
    dcp.save({"w": torch.ones(1)}, storage_writer=StoreWriter(store, LINE))
    with pytest.raises(CheckpointException, match=r"w"):
        dcp.load({"w": torch.ones(2)}, storage_reader=StoreReader(store, f"{LINE}@v1.0"))


def test_ranks_must_read_one_version(store: ModelStore) -> None:
    """If the ref moved between two ranks, the coordinator refuses to mix two versions."""
    dcp.save({"w": torch.ones(1)}, storage_writer=StoreWriter(store, LINE))
    reader = StoreReader(store, f"{LINE}@latest")
    mine = reader.prepare_local_plan(LoadPlan([]))
    assert reader.prepare_global_plan([mine, mine]) == [mine, mine]
    with pytest.raises(ConflictError, match="moved while the ranks began"):
        reader.prepare_global_plan([mine, LoadPlan([], storage_data="0" * 64)])


def test_a_writer_can_be_sent_to_another_process(store: ModelStore) -> None:
    """As torch's own process for background saves demands."""
    writer = pickle.loads(pickle.dumps(StoreWriter(store, LINE, "sent")))
    dcp.save({"w": torch.ones(1)}, storage_writer=writer)
    assert store.log(LINE)[0]["message"] == "sent"

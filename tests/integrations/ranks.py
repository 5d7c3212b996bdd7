"""What each process of a distributed job does in the tests: python -m torch.distributed.run ranks.py."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from modelstore.integrations.distributed import StoreReader, StoreWriter

ROWS, WIDTH = 7, 24
"""A number of rows that two ranks cannot share evenly."""


def make() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Return a model that all ranks make alike, sharded over them, and its optimizer."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Embedding(ROWS, WIDTH), torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, 1)
    )
    if dist.get_world_size() > 1:
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in model:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3)


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Train on the same rows in every rank."""
    model(torch.arange(ROWS)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def state_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer, done: int) -> dict[str, Any]:
    """Return what a checkpoint holds, with a tensor that is sharded by columns among it."""
    weights, moments = get_state_dict(model, optimizer)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    columns = torch.arange(5.0 * 8).view(5, 8)
    return {
        "model": weights,
        "optim": moments,
        "columns": distribute_tensor(columns, mesh, [Shard(1)]),
        "done": done,
        "names": ["a", ("b", 1.5, None)],
    }


def whole(value: Any) -> Any:
    """Return the tensor of which each rank has a part."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def save(store: str) -> None:
    """Save twice, in one way and the other, and then show what was saved."""
    model, optimizer = make()
    step(model, optimizer)
    writer = StoreWriter(store, "sharded", "one step")
    dcp.save(state_of(model, optimizer, 1), storage_writer=writer)
    first = writer.version
    step(model, optimizer)
    dcp.async_save(state_of(model, optimizer, 2), storage_writer=writer).result()
    expected = {name: whole(value) for name, value in model.state_dict().items()}
    if dist.get_rank() == 0:
        assert (first, writer.version) == ("sharded@v1.0", "sharded@v1.1"), writer.version
        torch.save(expected, f"{store}/../expected.pt")
    else:
        assert not writer.version


def load(store: str) -> None:
    """Load what another number of ranks has saved, and go on from there."""
    model, optimizer = make()
    state = state_of(model, optimizer, 0)
    state["columns"] = distribute_tensor(
        torch.zeros(5, 8), init_device_mesh("cpu", (dist.get_world_size(),)), [Shard(0)]
    )
    dcp.load(state, storage_reader=StoreReader(store, "sharded@latest"))
    set_state_dict(
        model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optim"]
    )
    assert state["done"] == 2
    assert state["names"] == ["a", ("b", 1.5, None)]
    assert torch.equal(whole(state["columns"]), torch.arange(40.0).view(5, 8))
    expected = torch.load(f"{store}/../expected.pt", weights_only=True)
    for name, value in model.state_dict().items():
        assert torch.equal(whole(value), expected[name]), name
    moments = {whole(v["exp_avg"]).abs().sum().item() > 0 for v in optimizer.state.values()}
    assert moments == {True}
    step(model, optimizer)


def apart(store: str) -> None:
    """Save from processes of their own, as torch starts them."""
    model, optimizer = make()
    step(model, optimizer)
    writer = StoreWriter(store, "sharded", "from another process")
    kind = AsyncCheckpointerType.PROCESS
    state = state_of(model, optimizer, 1)
    dcp.async_save(state, storage_writer=writer, async_checkpointer_type=kind).result(180)


class DyingPlanner(dcp.DefaultSavePlanner):
    """Kills the second rank in the middle of what it writes."""

    def finish_plan(self, new_plan: Any) -> Any:
        """Count what is asked for from now on."""
        self.asked = 0
        return super().finish_plan(new_plan)

    def resolve_data(self, write_item: Any) -> Any:
        """Return an item, or die."""
        self.asked += 1
        if dist.get_rank() == 1 and self.asked > 35:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().resolve_data(write_item)


def die(store: str) -> None:
    """Save, and be killed meanwhile."""
    model, optimizer = make()
    step(model, optimizer)
    state = state_of(model, optimizer, 1)
    dcp.save(state, storage_writer=StoreWriter(store, "sharded"), planner=DyingPlanner())


if __name__ == "__main__":
    dist.init_process_group("gloo")
    {"save": save, "load": load, "apart": apart, "die": die}[sys.argv[1]](sys.argv[2])
    dist.barrier()  # a rank that leaves early can abort in the threads of gloo
    dist.destroy_process_group()

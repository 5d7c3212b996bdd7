"""What a run leaves: the trained weights as files, and the adapters that were merged into them.

Whatever the run computed in, a tensor gets the dtype that it has in the base, and lies in the file
in which the base has it. What a run cannot have changed, because transformers does not load it, is
taken over from the base, so that a version differs from its base by values only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from modelstore import disk
from modelstore.canonical import parse_mapping
from modelstore.training.base import Base
from modelstore.training.layout import INDEX, SAFETENSORS, Shard, index_of, layout_of
from modelstore.training.losses import diverged

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel
    from trl import SFTTrainer

PICKLED = "pytorch_model.bin"
"""The file that holds all weights where ``weights_format`` is "bin"."""

_METADATA = {"format": "pt"}  # transformers does not load a safetensors file without it
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}


# --- the model


def trained_model(
    trainer: SFTTrainer,
    method: str,
    adapter: Path | None,
    source: Base | None = None,
    base_name: str = "",
) -> PreTrainedModel:
    """Return the model that was trained, with its adapters merged, in memory of the CPU.

    Args:
        trainer: after the training. One process calls this: the first of several.
        method: as in `TrainOptions`.
        adapter: where adapters are saved before they are merged, as PEFT does it; None: nowhere. It
            belongs into the output, under `modelstore.ops.adapter.DIRECTORY`: so the version keeps
            it, and the commit, given it too, stores the merged weights as products.
        source: what the run started from: adapters that are saved get its dtype, and "qlora" merges
            into its weights, which have all their digits.
        base_name: what the adapter says that it was trained on: an id on the Hub, or a ref.

    Raises:
        DivergedError: a weight is infinite or not a number.
    """
    import torch

    model = trainer.accelerator.unwrap_model(trainer.model)
    if method in {"lora", "qlora"}:
        if adapter is not None:
            with _rounded(model, source):
                _save_adapter(model, adapter, base_name)
        model = model.to("cpu") if method == "lora" else _on_whole_base(model, source)
        model = model.merge_and_unload()  # on a CPU the same adapters always make the same weights
    for name, weight in model.named_parameters():
        # the last step changed the weights after its loss was seen
        if not torch.isfinite(weight).all():
            raise diverged(f"the weight '{name}' is not finite after the last step")
    return model


@contextmanager
def _rounded(model: PeftModel, source: Base | None) -> Iterator[None]:
    """Have the adapters' weights in the base's dtype for the length of the block, rounded for good.

    What is merged then is what was saved, and half as large: of SmolLM2-135M 6.8 MB are stored
    and not 16.5; of the merged weights 0.2 % are one step of bfloat16 further up or down for it.
    """
    weights = [weight for name, weight in model.named_parameters() if ".lora_" in name]
    before = [weight.dtype for weight in weights]
    if source is not None:
        for weight in weights:
            weight.data = _as_in_base(weight.data, source, "")
    yield
    for weight, dtype in zip(weights, before, strict=True):
        weight.data = weight.data.to(dtype=dtype)


def _save_adapter(model: PeftModel, directory: Path, base_name: str) -> None:
    """Save the adapters; equal ones give equal bytes, wherever and whenever they were trained."""
    # "auto" would ask the Hub for the size of the base's vocabulary
    model.save_pretrained(str(directory), save_embedding_layers=False)
    disk.remove(directory / "README.md")  # a form with nothing filled in
    config = directory / "adapter_config.json"
    value = parse_mapping(config.read_bytes(), f"'{config}'")
    value["base_model_name_or_path"] = base_name or None  # PEFT writes where it was loaded from
    for name, item in value.items():
        if isinstance(item, list) and all(isinstance(one, str) for one in item):
            value[name] = sorted(item)  # a set's order is another one in every process
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    readable = config.stat().st_mode
    disk.replace(config, text.encode("utf-8"))
    for path in directory.iterdir():
        disk.set_mode(path, readable)  # as the umask has it; safetensors says 0600


def _on_whole_base(model: PeftModel, source: Base | None) -> PeftModel:
    """Return the adapters of ``model`` on the base as it lies on disk, not as four bits have it."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from transformers import AutoModelForCausalLM

    if source is None:
        raise ValueError("a base held in four bits is not what adapters are merged into")
    whole = AutoModelForCausalLM.from_pretrained(
        source.directory, dtype="auto", local_files_only=True
    )
    adapted = get_peft_model(whole, model.peft_config["default"])
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    set_peft_model_state_dict(adapted, {name: one.to("cpu") for name, one in weights.items()})
    return adapted


# --- its files


def save(
    model: PreTrainedModel, source: Base, output: Path, weights_format: str = "safetensors"
) -> None:
    """Write the weights in the base's dtypes, and beside them the base's other files.

    Args:
        model: as `trained_model` returns it; its weights are changed to those dtypes.
        source: what the run started from.
        output: a directory that exists; it may hold the adapter already.
        weights_format: "safetensors" for files of the names and contents that the base's have;
            "bin" for one `pytorch_model.bin` that ``torch.load(weights_only=True)`` reads.
    """
    _cast(model, source)
    scratch = output / "save"
    model.save_pretrained(scratch)  # it knows what tensors are called in files
    for path in source.carried:
        disk.copy_new(path, output / path.name)
    made = sorted(scratch.glob(f"*{SAFETENSORS}"))
    layout = layout_of(source)
    with ExitStack() as files:
        trained = _Trained(made, _aliases(model), files)
        if weights_format == "bin":
            _write_pickled(trained, layout, list(model.state_dict()), scratch)
        elif not _is_laid_out(made, trained, layout):
            _write_shards(trained, layout, source, scratch / "shards")
    readable = (output / "config.json").stat().st_mode  # as the umask has it; safetensors says 0600
    for path in _results(scratch, made, weights_format):
        disk.set_mode(path, readable)
        disk.rename(path, output / path.name)
    disk.remove_tree(scratch)


def weight_files(output: Path) -> list[Path]:
    """Return the files of weights that `save` wrote, in order, without those of the adapter."""
    return sorted([*output.glob(f"*{SAFETENSORS}"), *output.glob(PICKLED)])


def _cast(model: PreTrainedModel, source: Base) -> None:
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.data = _as_in_base(weight.data, source, name)


def _as_in_base(tensor: Tensor, source: Base, name: str) -> Tensor:
    """Return ``tensor`` on the CPU, in the dtype that the base has it in if that is a usual one."""
    import torch

    known = _DTYPES.get(source.dtype_of(name))
    return tensor.to(device="cpu", dtype=getattr(torch, known) if known else None)


def _aliases(model: PreTrainedModel) -> dict[str, tuple[str, ...]]:
    """Return, by the name of each tensor that is tied, all names that it has."""
    by_place: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    for name, tensor in model.state_dict().items():
        by_place.setdefault((tensor.data_ptr(), tuple(tensor.shape)), []).append(name)
    tied = (tuple(names) for names in by_place.values() if len(names) > 1)
    return {name: names for names in tied for name in names}


class _Trained:
    """The tensors that transformers saved, by name; tied ones by any of their names.

    Args:
        made: its files.
        aliases: see `_aliases`.
        files: closes them.
    """

    def __init__(
        self, made: Sequence[Path], aliases: Mapping[str, tuple[str, ...]], files: ExitStack
    ) -> None:
        from safetensors import safe_open

        opened = [files.enter_context(safe_open(path, framework="pt")) for path in made]
        self._files = {name: file for file in opened for name in file.keys()}  # noqa: SIM118
        self._aliases = aliases

    @property
    def names(self) -> list[str]:
        """The names under which they were saved."""
        return list(self._files)

    def saved_as(self, name: str) -> str:
        """Return the name under which a tensor was saved, "" where it was not."""
        others = (name, *self._aliases.get(name, ()))
        return next((one for one in others if one in self._files), "")

    def read(self, name: str) -> Tensor:
        """Return a tensor in memory of its own."""
        return self._files[self.saved_as(name)].get_tensor(name=self.saved_as(name)).clone()


def _is_laid_out(made: Sequence[Path], trained: _Trained, layout: Sequence[Shard]) -> bool:
    """Tell whether transformers wrote the one file that the base has, under its name."""
    names = sorted(name for shard in layout for group in shard.tensors for name in group)
    files = [shard.name for shard in layout]
    return files == [path.name for path in made] and names == sorted(trained.names)


def _results(scratch: Path, made: Sequence[Path], weights_format: str) -> Iterator[Path]:
    if weights_format == "bin":
        yield scratch / PICKLED
    elif (scratch / "shards").is_dir():
        yield from sorted((scratch / "shards").iterdir())
    else:
        yield from made


def _write_shards(
    trained: _Trained, layout: Sequence[Shard], source: Base, directory: Path
) -> None:
    """Write the tensors into the files in which the base has them, and the index of several."""
    from safetensors.torch import save_file

    disk.make_dir(directory)
    rest = set(trained.names)
    where: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for number, shard in enumerate(layout, 1):
        tensors = dict(_tensors_of(trained, shard))
        rest -= {trained.saved_as(name) for name in tensors}
        if number == len(layout):  # what the base has under no name
            tensors |= {name: trained.read(name) for name in sorted(rest)}
        tensors = {name: _as_in_base(one, source, name) for name, one in tensors.items()}
        save_file(tensors, directory / shard.name, metadata=_METADATA)
        where |= dict.fromkeys(tensors, shard.name)
        sizes |= {name: one.nbytes for name, one in tensors.items()}
    if len(layout) > 1:
        disk.create(directory / INDEX, _index(source, index_of(where, sizes)))


def _tensors_of(trained: _Trained, shard: Shard) -> Iterator[tuple[str, Tensor]]:
    """Yield what the new file holds; safetensors keeps only one of tied tensors."""
    for group in shard.tensors:
        saved = [name for name in group if trained.saved_as(name)]
        if not saved:
            yield group[0], _of_base(shard, group[0])
        elif shard.is_safetensors:
            yield from ((name, trained.read(name)) for name in saved)
        else:
            name = trained.saved_as(saved[0])
            yield name, trained.read(name)


def _of_base(shard: Shard, name: str) -> Tensor:
    """Return a tensor of the base that transformers does not load, as buffers of older models."""
    if shard.is_safetensors:
        from safetensors import safe_open

        with safe_open(shard.source, framework="pt") as file:
            return file.get_tensor(name)
    import torch

    return torch.load(shard.source, weights_only=True, map_location="cpu")[name].contiguous()


def _index(source: Base, index: Mapping[str, object]) -> bytes:
    """Return the index of several files: the base's own where it says the same."""
    path = source.directory / INDEX
    if path.is_file():
        data = path.read_bytes()
        if parse_mapping(data, f"'{path}'").get("weight_map") == index["weight_map"]:
            return data
    return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode("utf-8")


def _write_pickled(
    trained: _Trained, layout: Sequence[Shard], order: Sequence[str], directory: Path
) -> None:
    """Write all tensors into one file of torch's, in which tied ones share their values."""
    import torch

    tensors: dict[str, Tensor] = {}
    read = {name: partial(trained.read, name) for name in trained.names}
    for shard in layout:
        for group in shard.tensors:
            if not any(trained.saved_as(name) for name in group):
                read[group[0]] = partial(_of_base, shard, group[0])
    for name, tensor in read.items():
        tensors[name] = tensor()
    tied = {name: tensors[trained.saved_as(name)] for name in order if trained.saved_as(name)}
    torch.save({**tied, **tensors}, directory / PICKLED)

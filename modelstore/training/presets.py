"""Presets: named settings for a kind of machine. They are data, in ``presets.toml`` beside this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from modelstore.errors import NotFoundError
from modelstore.training import toml
from modelstore.training.options import Value

AUTO = "auto"
"""The preset that is chosen by what the machine has."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings for a kind of machine.

    Attributes:
        name: "laptop", "gpu".
        description: what it is for, in one line.
        values: fields of `TrainOptions`.
    """

    name: str
    description: str
    values: Mapping[str, Value]


@cache
def presets() -> tuple[Preset, ...]:
    """Return all presets, in the order of the file."""
    text = files("modelstore.training").joinpath("presets.toml").read_text(encoding="utf-8")
    return tuple(_preset(name, table) for name, table in toml.parse(text, "presets.toml").items())


def _preset(name: str, table: Mapping[str, Value]) -> Preset:
    values = {key: value for key, value in table.items() if key != "description"}
    return Preset(name, str(table["description"]), values)


def preset(name: str) -> Preset:
    """Return the preset called ``name``; ``auto`` is the one for this machine.

    Raises:
        NotFoundError: there is none of that name.
    """
    wanted = suited() if name == AUTO else name
    for found in presets():
        if found.name == wanted:
            return found
    names = ", ".join([AUTO, *(found.name for found in presets())])
    raise NotFoundError(
        f"there is no preset {name!r}; there are {names}", "mstore train --list-presets"
    )


def suited() -> str:
    """Return the name of the preset for this machine: "gpu" where torch sees a GPU."""
    import torch

    return "gpu" if torch.cuda.is_available() else "laptop"

"""Presets are data that every run can begin with."""

from __future__ import annotations

import pytest

from modelstore.errors import NotFoundError
from modelstore.ops.init import LINES
from modelstore.training.options import TrainOptions
from modelstore.training.presets import preset, presets
from modelstore.training.settings import check


def test_presets_are_settings() -> None:
    """Every preset has a description, and values that options take."""
    assert [one.name for one in presets()] == ["laptop", "gpu"]
    for one in presets():
        assert one.description
        values = {name: check(name, value, one.name) for name, value in one.values.items()}
        TrainOptions(**values)  # type: ignore[arg-type]


def test_presets_are_the_two_set_ups() -> None:
    """The laptop trains quickly on its CPU, the GPU thoroughly in batches of eight."""
    laptop, gpu = preset("laptop").values, preset("gpu").values
    assert (laptop["device"], laptop["batch_size"], laptop["epochs"]) == ("cpu", 1, 1)
    assert (gpu["device"], gpu["batch_size"], gpu["epochs"]) == ("cuda", 8, 3)


def test_lines_carry_presets_that_exist() -> None:
    """What `mstore init` sets a line up with agrees with the preset that it names."""
    for values in LINES.values():
        defaults = dict(values["defaults"])
        carried = preset(defaults.pop("preset")).values
        assert {name: carried[name] for name in defaults} == defaults


def test_auto_is_one_of_them() -> None:
    """The preset for this machine is a GPU's where torch sees one."""
    torch = pytest.importorskip("torch")
    assert preset("auto").name == ("gpu" if torch.cuda.is_available() else "laptop")


def test_an_unknown_preset() -> None:
    """A preset that is not there is an error that lists those that are."""
    with pytest.raises(NotFoundError, match="auto, laptop, gpu") as caught:
        preset("big")
    assert caught.value.hint == "mstore train --list-presets"

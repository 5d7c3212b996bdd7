"""A history as a picture: what is drawn of which versions."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.history import log
from modelstore.ops.history_chart import MOST_METRICS, history_chart, number_of
from modelstore.store import Store
from tests.models import write_model


def drawn(store: Store, ref: str = "") -> list[str]:
    """Return what is written in the picture."""
    root = ET.fromstring(history_chart(log(store, ref)).document())
    return [str(node.text) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_metrics_and_costs_of_every_model_are_drawn(store: Store, tmp_path: Path) -> None:
    """A panel for each metric, those that most versions have first, and one for the costs."""
    for number, (model, metrics) in enumerate(
        [("a", {"loss": 2.0, "zeta": 1}), ("a", {"loss": 1.5, "name": "x"}), ("b", {})]
    ):
        options = CommitOptions(metrics=metrics)
        directory = write_model(tmp_path / str(number), step=number * 1e-3)
        commit(store, directory, ModelName(model), options)
    said = drawn(store)
    titles = ["a: loss", "a: zeta", "a: files, and what they added to the store",
              "b: files, and what they added to the store"]  # fmt: skip
    assert [one for one in said if one in titles] == titles
    assert not any("model_size" in one or "name" in one for one in said)
    assert [one for one in drawn(store, "b") if one in titles] == titles[-1:]


def test_a_few_metrics_of_many_are_drawn(store: Store, tmp_path: Path) -> None:
    """The picture stays one that a person looks at."""
    metrics = {f"m{number:03}": float(number) for number in range(100)}
    commit(store, write_model(tmp_path / "a"), ModelName("a"), CommitOptions(metrics=metrics))
    assert len([one for one in drawn(store) if one.startswith("a: m")]) == MOST_METRICS


def test_a_store_without_versions_makes_a_picture(store: Store) -> None:
    """It says that there is nothing."""
    assert "no sizes" in drawn(store)


@pytest.mark.parametrize("value", [True, "2.5", None, float("nan"), float("inf"), 10**400, [1]])
def test_what_is_no_number_is_not_drawn(value: object) -> None:
    """Metrics come from anybody's files."""
    assert number_of(value) is None

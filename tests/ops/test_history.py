"""The history: which versions there are, newest first, and what descends from what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import NotFoundError
from modelstore.hashing import digest_of
from modelstore.names import ModelName, parse_version
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.history import graph, log
from modelstore.ops.resolve import Context
from modelstore.state import Change, Entry
from modelstore.store import Store, create
from tests.models import write_model

MODEL, OTHER = ModelName("llama_1b"), ModelName("other")


@pytest.fixture
def forked(store: Store, tmp_path: Path) -> Store:
    """v1.0, from it v1.1 and v1.2, and v1.3 of both; and another model that starts from v1.1."""
    parents: list[tuple[ModelName, tuple[str, ...] | None]] = [
        (MODEL, None),
        (MODEL, ("v1.0",)),
        (MODEL, ("v1.0",)),
        (MODEL, ("v1.1", "v1.2")),
        (OTHER, ("llama_1b@v1.1",)),
    ]
    for n, (model, said) in enumerate(parents):
        directory = write_model(tmp_path / "run", step=n * 1e-3)
        commit(store, directory, model, CommitOptions(parents=said))
    return store


def _versions(store: Store, ref: str = "", **more: int) -> list[list[str]]:
    return [[str(entry.version) for entry in h.entries] for h in log(store, ref, **more)]


def test_every_model_newest_first(forked: Store) -> None:
    """Without a ref: all versions of all models, each model by itself."""
    assert _versions(forked) == [["v1.3", "v1.2", "v1.1", "v1.0"], ["v1.0"]]
    assert _versions(forked, limit=2) == [["v1.3", "v1.2"], ["v1.0"]]
    assert [history.total for history in log(forked, limit=2)] == [4, 1]


def test_one_model(forked: Store) -> None:
    """The name of a model, or the context, leaves the others out."""
    assert _versions(forked, "other") == [["v1.0"]]
    assert [h.model for h in log(forked, context=Context(OTHER))] == [OTHER]


def test_a_ref_shows_what_it_descends_from(forked: Store) -> None:
    """Only ancestors are shown, through every parent, within the model."""
    assert _versions(forked, "llama_1b@v1.2") == [["v1.2", "v1.0"]]
    assert _versions(forked, "llama_1b@v1.3") == [["v1.3", "v1.2", "v1.1", "v1.0"]]
    assert _versions(forked, "other@v1.0") == [["v1.0"]]


def test_nothing_of_that_name(forked: Store) -> None:
    """A ref that nothing has is an error, and so is the model of the context."""
    with pytest.raises(NotFoundError):
        log(forked, "v7.0")
    with pytest.raises(NotFoundError):
        log(forked, context=Context(ModelName("nobody")))


def test_a_store_without_models_has_no_history(tmp_path: Path) -> None:
    """Nothing is shown, and that is no error."""
    assert log(create(tmp_path / "empty")) == []


def test_order_is_the_order_of_commits_and_not_of_clocks(store: Store) -> None:
    """A version whose time lies in the past is still the newest."""
    for n, year in enumerate((2030, 2020)):
        values = {"seq": n + 1, "created_at": f"{year}-01-01T00:00:00Z"}
        change = Change("adopt", versions={f"v1.{n}": values})
        store.change(MODEL, lambda _, change=change: change)
    assert _versions(store) == [["v1.1", "v1.0"]]


def test_the_graph_of_a_fork(forked: Store) -> None:
    """A star for each version, and a bar for each line that passes by."""
    assert graph(log(forked, "llama_1b@v1.3")[0].entries) == ["*", "| *", "* |", "*"]


@given(st.lists(st.lists(st.integers(0, 20), max_size=3, unique=True), max_size=12))
def test_the_graph_has_one_star_a_row(parents: Sequence[Sequence[int]]) -> None:
    """Whatever descends from what, each version is drawn once, in a row of its own."""
    ids = [digest_of(bytes([n])) for n in range(len(parents))]
    entries = [
        Entry(
            parse_version(f"v1.{n}"),
            {"id": ids[n], "parents": [ids[p] for p in older if p < n]},
        )
        for n, older in enumerate(parents)
    ]
    rows = graph(entries[::-1])
    assert [row.count("*") for row in rows] == [1] * len(entries)
    assert all(set(row) <= set("*| ") for row in rows)

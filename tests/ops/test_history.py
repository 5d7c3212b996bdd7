"""The history: which versions there are, newest first, and what descends from what."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.errors import NotFoundError
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.history import log
from modelstore.ops.resolve import Context
from modelstore.state import Change
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
    assert [history.total for history in log(forked, limit=2)] == [4, 1]


def test_a_limit_is_on_all_models_together(store: Store) -> None:
    """The newest are shown, each under its model; one without a time is the oldest."""
    days = {MODEL: ("01", "04", "02"), OTHER: ("", "03")}
    for model, some in days.items():
        for n, day in enumerate(some):
            values = {"seq": n + 1, "created_at": f"2026-01-{day}T00:00:00Z" if day else ""}
            change = Change("adopt", versions={f"v1.{n}": values})
            store.change(model, lambda _, change=change: change)
    assert _versions(store, limit=1) == [[], ["v1.1"]]
    assert _versions(store, limit=2) == [["v1.2"], ["v1.1"]]
    assert _versions(store, limit=3) == [["v1.2", "v1.1"], ["v1.1"]]
    assert _versions(store, limit=4) == [["v1.2", "v1.1", "v1.0"], ["v1.1"]]
    assert _versions(store, limit=9) == _versions(store)
    assert _versions(store, "llama_1b", limit=1) == [["v1.2"]]


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

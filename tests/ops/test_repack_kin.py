"""Kin: versions in order, parents first, and who is near whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.repack_kin import Kin
from modelstore.ops.resolve import Resolved
from modelstore.store import Store, create
from tests.models import write_model


@pytest.fixture
def family(tmp_path: Path) -> Store:
    """Two lines: m is v1.0, two children of it, and a child of the first; n begins from m@v1.2."""
    store = create(tmp_path / "store")
    made = (("m", ()), ("m", ["v1.0"]), ("m", ["v1.0"]), ("m", ["v1.1"]), ("n", ["m@v1.2"]))
    for number, (model, parents) in enumerate(made):
        source = write_model(tmp_path / f"run{number}", step=1e-4 * number)
        commit(store, source, ModelName(model), CommitOptions(parents=parents))
    return store


def names(versions: list[Resolved]) -> list[str]:
    """Return the full names of versions."""
    return [str(version) for version in versions]


def test_parents_come_first(family: Store) -> None:
    """Every version stands after all it was made from, and each once."""
    order = names(Kin(family).versions)
    assert sorted(order) == ["m@v1.0", "m@v1.1", "m@v1.2", "m@v1.3", "n@v1.0"]
    for child, parent in (("m@v1.1", "m@v1.0"), ("m@v1.3", "m@v1.1"), ("n@v1.0", "m@v1.2")):
        assert order.index(child) > order.index(parent)


def test_the_nearest_come_first(family: Store) -> None:
    """The parent, then the root, then siblings; nothing that comes later in the order."""
    kin = Kin(family)
    near = {str(version): names(kin.near(version, 5)) for version in kin.versions}
    assert near["m@v1.0"] == []
    assert near["m@v1.1"] == ["m@v1.0"]
    assert near["m@v1.2"] == ["m@v1.0", "m@v1.1"]
    assert near["m@v1.3"][:2] == ["m@v1.1", "m@v1.0"]
    assert near["n@v1.0"][:2] == ["m@v1.2", "m@v1.0"]
    assert names(kin.near(kin.versions[-1], 1)) == near[str(kin.versions[-1])][:1]


def test_bases_are_the_namesakes_in_kin(family: Store) -> None:
    """A tensor's bases are the blobs of its name in the versions near, never itself."""
    kin = Kin(family)
    child = next(version for version in kin.versions if str(version) == "m@v1.3")
    manifests = {str(one): family.manifest(one.model, one.entry) for one in kin.versions}
    for _, span, tensor in manifests["m@v1.3"].tensors():
        expected = [
            other.blob
            for near in ("m@v1.1", "m@v1.0")
            for _, other, namesake in manifests[near].tensors()
            if namesake.name == tensor.name
        ]
        assert kin.bases(span, kin.near(child, 2)) == expected


def test_equal_versions_count_once(family: Store, tmp_path: Path) -> None:
    """A manifest that goes by several names stands under the first."""
    entry = family.state(ModelName("m")).entries()[0]
    family.change(ModelName("m"), lambda _: _again(entry.values))
    assert names(Kin(family).versions).count("m@v1.0") == 1
    assert "m@v9.0" not in names(Kin(family).versions)


def _again(values: object) -> object:
    from modelstore.state import Change

    assert isinstance(values, dict)
    return Change("adopt", versions={"v9.0": {**values, "seq": 99, "path": "m/v9.0"}})

"""Merged adapters are stored as products: found by repack, or told to commit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from modelstore.errors import NotFoundError, UsageError
from modelstore.hashing import Digest
from modelstore.names import ModelName
from modelstore.ops.absent import Presence
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, Committed, commit
from modelstore.ops.heal import heal
from modelstore.ops.repack import repack
from modelstore.ops.repack_ways import Effort
from modelstore.ops.resolve import resolve
from modelstore.ops.usage import usage
from modelstore.ops.verify import verify
from modelstore.store import Store, create
from tests.crashes import crashes
from tests.loras import LAYERS, layers, rounded, widened, write_adapter, write_merge, write_weights
from tests.models import files_of

LINE = ModelName("m")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directories base, merged and adapter; not to be changed."""
    return write_merge(tmp_path_factory.mktemp("lora"))


@pytest.fixture(scope="module")
def template(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of base and merge, committed without the adapter; not to be changed."""
    store = create(tmp_path_factory.mktemp("template") / "store")
    commit(store, files / "base", LINE, CommitOptions())
    commit(store, files / "merged", LINE, CommitOptions())
    return store


@pytest.fixture
def store(template: Store, tmp_path: Path) -> Store:
    """The same store, to be worked on."""
    return copied(template, tmp_path / "store")


def copied(store: Store, root: Path) -> Store:
    """Return a copy of a store."""
    shutil.copytree(store.root, root)
    return Store(root)


def codecs(store: Store, ref: str) -> list[str]:
    """Return the codecs of a version's tensors."""
    resolved = resolve(store, ref)
    manifest = store.manifest(LINE, resolved.entry)
    return [store.blobs.header(span.blob).codec for _, span, _ in manifest.tensors()]


def factors(store: Store, ref: str) -> set[Digest]:
    """Return the blobs that the tensors of a version have as factors."""
    manifest = store.manifest(LINE, resolve(store, ref).entry)
    headers = [store.blobs.header(span.blob) for _, span, _ in manifest.tensors()]
    return {
        name for one in headers if one.factors for name in (one.factors.left, one.factors.right)
    }


def assert_whole(store: Store) -> None:
    """Check every byte of every version, and the rules of depth."""
    for entry in store.state(LINE).entries():
        assert verify(store, resolve(store, str(entry.version))).sound
    for digest in store.blobs.iter_digests():
        header = store.blobs.header(digest)
        assert all(store.blobs.header(one).depth < header.depth for one in header.built_on)


def with_adapter(store: Store, files: Path, **options: object) -> Committed:
    """Commit the base, and the merge beside its adapter."""
    commit(store, files / "base", LINE, CommitOptions())
    options = {"adapter": files / "adapter", **options}
    return commit(store, files / "merged", LINE, CommitOptions(**options))  # type: ignore[arg-type]


# --- repack


def test_repack_finds_what_was_merged(store: Store, files: Path, tmp_path: Path) -> None:
    """The greatest effort makes products of merged tensors; they come out as they were."""
    repack(store)
    before = usage(store)
    done = repack(store, effort=Effort.MAX)
    after = usage(store)
    assert "lowrank" not in codecs(store, "v1.0")
    assert codecs(store, "v1.1") == ["lowrank"] * len(LAYERS)
    assert after.stored == before.stored - done.total.won
    assert after.versions[1].unique < 0.6 * before.versions[1].unique
    assert_whole(store)
    checkout(store, resolve(store, "v1.1"), output=tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(files / "merged")


def test_a_second_search_finds_nothing_more(store: Store) -> None:
    """What is a product already is left as it is."""
    repack(store, effort=Effort.MAX)
    before = files_of(store.meta / "blobs")
    assert repack(store, effort=Effort.MAX).total.recoded == 0
    assert files_of(store.meta / "blobs") == before


def test_a_dry_run_leaves_nothing(store: Store) -> None:
    """What would be won is told, and neither frames nor factors stay."""
    before = files_of(store.meta / "blobs")
    would = repack(store, effort=Effort.MAX, dry_run=True).total
    assert files_of(store.meta / "blobs") == before
    assert would == repack(store, effort=Effort.MAX).total
    assert would.won > 0


def test_full_fine_tunes_have_no_product(tmp_path: Path) -> None:
    """A change in all directions is stored as steps, whatever the effort."""
    store, random = create(tmp_path / "store"), np.random.default_rng(9)
    for number in range(2):
        tensors = {
            name: rounded(widened(layer.base) + number * 5e-4 * random.standard_normal((256, 192)))
            for name, layer in layers().items()
        }
        commit(store, write_weights(tmp_path / str(number), tensors), LINE, CommitOptions())
    repack(store, effort=Effort.MAX)
    assert "lowrank" not in codecs(store, "v1.1")
    assert_whole(store)


def test_killed_at_any_step_a_search_loses_nothing(tmp_path: Path) -> None:
    """Whatever change of the disk it died before, all is whole, and a second run ends it."""
    one, layer = tmp_path / "one", layers()[LAYERS[0]]
    small = create(one / "store")
    for name, bits in (("a", layer.base), ("b", layer.merged)):
        commit(small, write_weights(one / name, {LAYERS[0]: bits}), LINE, CommitOptions())
    clean = copied(small, one / "clean")
    repack(clean, effort=Effort.MAX)
    goal = usage(clean).stored
    step, died = 1, True
    while died:
        work = copied(small, one / f"at{step}")
        died = crashes(lambda work=work: repack(work, effort=Effort.MAX), step)
        assert_whole(work)
        repack(work, effort=Effort.MAX)
        assert_whole(work)
        assert codecs(work, "v1.1") == ["lowrank"]
        assert not [path for path in (work.meta / "tmp").iterdir() if path.is_dir()]
        found = usage(work)
        assert found.reclaimable is not None  # what the dead left of factors, no version needs
        assert found.stored - found.reclaimable == goal
        shutil.rmtree(work.root)
        step += 1
    assert step > 15


# --- commit


def test_the_adapter_makes_a_merge_smaller(template: Store, files: Path, tmp_path: Path) -> None:
    """With its adapter a merge takes a fraction, and what commit says is what it took."""
    store = create(tmp_path / "store")
    done = with_adapter(store, files)
    assert codecs(store, "v1.1") == ["lowrank"] * len(LAYERS)
    without = usage(template).versions[1].unique
    assert usage(store).versions[1].unique < 0.5 * without
    assert done.new_blobs >= 3 * len(LAYERS)
    assert_whole(store)
    checkout(store, resolve(store, "v1.1"), output=tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(files / "merged")


def test_an_adapter_that_is_in_the_store_costs_nothing(
    template: Store, files: Path, tmp_path: Path
) -> None:
    """Where its matrices are blobs anyway, the tensors are built on these very blobs."""
    store = create(tmp_path / "store")
    adapter = commit(store, files / "adapter", ModelName("adapter"), CommitOptions())
    manifest = store.manifest(adapter.model, resolve(store, "adapter@v1.0").entry)
    done = with_adapter(store, files)
    assert factors(store, "v1.1") == {span.blob for _, span, _ in manifest.tensors()}
    assert done.stored < 0.05 * usage(template).versions[1].unique + 5000
    assert_whole(store)


def test_an_adapter_may_be_part_of_the_version(files: Path, tmp_path: Path) -> None:
    """A merge that is committed together with its adapter is built on that."""
    both = tmp_path / "both"
    shutil.copytree(files / "merged", both)
    shutil.copytree(files / "adapter", both, dirs_exist_ok=True)
    store = create(tmp_path / "store")
    commit(store, files / "base", LINE, CommitOptions())
    commit(store, both, LINE, CommitOptions(adapter=both))
    manifest = store.manifest(LINE, resolve(store, "v1.1").entry)
    names = {tensor.name: span.blob for _, span, tensor in manifest.tensors()}
    assert factors(store, "v1.1") == {blob for name, blob in names.items() if "lora" in name}
    assert_whole(store)


def test_a_weak_adapter_is_not_worth_its_matrices(tmp_path: Path) -> None:
    """Where the steps take less than any product, they are what is stored."""
    files = write_merge(tmp_path / "weak", 1e-5)
    store = create(tmp_path / "store")
    with_adapter(store, files)
    assert "lowrank" not in codecs(store, "v1.1")
    assert_whole(store)


def test_another_adapter_changes_nothing(template: Store, files: Path, tmp_path: Path) -> None:
    """An adapter that was not merged predicts nothing, and the version is as without."""
    other = {name: layer.made(77) for name, layer in layers().items()}
    store = create(tmp_path / "store")
    with_adapter(store, files, adapter=write_adapter(tmp_path / "other", other))
    assert "lowrank" not in codecs(store, "v1.1")
    stored = [usage(one).versions[1].unique for one in (store, template)]
    assert abs(stored[0] - stored[1]) < 200  # the manifests' times


def test_weights_that_are_not_there_are_told(files: Path, tmp_path: Path) -> None:
    """An adapter of other layers warns, and names one of them."""
    strange = {name.replace("up_proj", "gate_proj"): one for name, one in layers().items()}
    store = create(tmp_path / "store")
    done = with_adapter(store, files, adapter=write_adapter(tmp_path / "strange", strange))
    assert any("3 of the weights" in line and "gate_proj" in line for line in done.warnings)
    assert "lowrank" not in codecs(store, "v1.1")


@pytest.mark.parametrize(
    ("settings", "error"), [({"use_dora": True}, UsageError), ({"peft_type": "IA3"}, UsageError)]
)
def test_adapters_of_other_kinds_are_refused(
    files: Path, tmp_path: Path, settings: dict[str, object], error: type[Exception]
) -> None:
    """What is merged in another way than a product ends the commit before it did anything."""
    store = create(tmp_path / "store")
    odd = write_adapter(tmp_path / "odd", layers(), **settings)
    with pytest.raises(error):
        with_adapter(store, files, adapter=odd)
    assert len(store.state(LINE).entries()) == 1


def test_a_directory_without_an_adapter_is_refused(files: Path, tmp_path: Path) -> None:
    """The error names the file that is not there."""
    store = create(tmp_path / "store")
    with pytest.raises(NotFoundError, match=r"adapter_config\.json"):
        with_adapter(store, files, adapter=files / "base")


# --- who must know of factors


def test_factors_count_as_needed(files: Path, tmp_path: Path) -> None:
    """Du counts factors for the version whose tensors are built on them, and none is loose."""
    store = create(tmp_path / "store")
    with_adapter(store, files)
    found = usage(store)
    assert found.reclaimable == 0
    assert len(factors(store, "v1.1")) == 2 * len(LAYERS)
    paths = [store.blobs.path(name) for name in factors(store, "v1.1")]
    assert found.versions[1].unique > sum(path.stat().st_size for path in paths) > 0


def test_a_lost_factor_is_noticed_and_comes_back(files: Path, tmp_path: Path) -> None:
    """Without a factor a tensor is not there; the version's files heal it."""
    store = create(tmp_path / "store")
    with_adapter(store, files)
    resolved = resolve(store, "v1.1")
    lost = sorted(factors(store, "v1.1"))[0]
    store.blobs.path(lost).unlink()
    presence = Presence(store)
    blobs = store.manifest(LINE, resolved.entry).blobs()
    assert [presence.has(blob) for blob in sorted(blobs)].count(False) == 1
    assert not verify(store, resolved).sound
    assert heal(store, resolved, files / "merged") > 0
    assert_whole_again(store, files, tmp_path)


def test_a_damaged_factor_is_noticed_and_comes_back(files: Path, tmp_path: Path) -> None:
    """A factor of which a byte changed is never used; the version's files heal what it broke."""
    store = create(tmp_path / "store")
    with_adapter(store, files)
    path = store.blobs.path(sorted(factors(store, "v1.1"))[0])
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert not verify(store, resolve(store, "v1.1")).sound
    assert heal(store, resolve(store, "v1.1"), files / "merged") > 0
    assert_whole_again(store, files, tmp_path)


def assert_whole_again(store: Store, files: Path, place: Path) -> None:
    """Check that the merged version comes out as it went in."""
    assert verify(store, resolve(store, "v1.1")).sound
    checkout(store, resolve(store, "v1.1"), output=place / "out")
    assert files_of(place / "out") == files_of(files / "merged")


def test_later_versions_build_on_products(files: Path, tmp_path: Path) -> None:
    """A fine-tune of a merge has the merge as its base, two deep, and comes out as it was."""
    store = create(tmp_path / "store")
    with_adapter(store, files)
    random = np.random.default_rng(4)
    tuned = {
        name: (one.merged + random.integers(0, 2, one.merged.shape)).astype("<u2")
        for name, one in layers().items()
    }
    commit(store, write_weights(tmp_path / "tuned", tuned), LINE, CommitOptions())
    manifest = store.manifest(LINE, resolve(store, "v1.2").entry)
    depths = {store.blobs.header(span.blob).depth for _, span, _ in manifest.tensors()}
    assert depths == {2}
    assert_whole(store)

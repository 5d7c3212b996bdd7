"""Replacing frames by products: their factors come first, and nothing is built on what is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from modelstore.blobs import BlobStore, BytesSource
from modelstore.blobs.choice import DEEPEST
from modelstore.blobs.drafts import NewFrame
from modelstore.blobs.lineage import Lineage
from modelstore.blobs.reader import opened
from modelstore.blobs.replacements import Replacements
from modelstore.codecs import ids
from modelstore.codecs.factors import Factors, Recipe
from modelstore.codecs.prediction import predict
from modelstore.hashing import digest_of
from modelstore.numeric import as_bits, dtype_named
from tests.blobs.conftest import BF16, add, damage, fine_tuned
from tests.crashes import crashes
from tests.frames import put_frame

F32 = dtype_named("F32")
ROWS, COLUMNS = 40, 100
RECIPE = Recipe(1, COLUMNS, F32, F32)


def merge() -> tuple[bytes, bytes, Factors]:
    """Return the bytes of a base and of a merge, and the factors of what was added."""
    base = fine_tuned(1, ROWS * COLUMNS)[0]
    random = np.random.default_rng(3)
    sides = ((random.standard_normal(size) * 0.05).astype("<f4") for size in (ROWS, COLUMNS))
    factors = Factors.from_blobs(RECIPE, *(side.tobytes() for side in sides))
    merged = predict(as_bits(base, BF16), BF16, 0, factors)
    return base, (merged ^ (np.arange(merged.size) % 50 == 0)).astype("<u2").tobytes(), factors


def write_merge(store: BlobStore, to: Replacements) -> NewFrame:
    """Stage a merge as a product, on its base in the store."""
    base, merged, factors = merge()
    with opened(store.path, digest_of(base)) as reader:
        source = BytesSource(merged)
        frame = to.write_product(digest_of(merged), source, BF16, COLUMNS, reader, factors)
    assert frame is not None
    return frame


@pytest.fixture
def merged(store: BlobStore) -> BlobStore:
    """A store of a base and a merge, each on its own."""
    base, data, _ = merge()
    add(store, base)
    put_frame(store, data, ids.RAW)
    return store


def test_a_product_comes_with_its_factors(merged: BlobStore):
    """Both factors are published before the frame, and count in its size."""
    _, data, factors = merge()
    with Replacements(merged, Lineage(merged)) as to:
        frame = write_merge(merged, to)
        to.keep(frame)
        assert [header.header.depth for header in frame.factors] == [0, 0]
        assert frame.stored_size > frame.header.stored_size
        assert to.publish() == [frame]
    names = [digest_of(side.tobytes()) for side in (factors.left, factors.right)]
    assert merged.header(digest_of(data)).built_on[1:] == tuple(names)
    assert merged.read(digest_of(data)) == data
    assert list((merged.root / "tmp").iterdir()) == []


def test_factors_that_are_there_are_not_written(merged: BlobStore):
    """A factor that the store has in good order costs nothing, and stays as it is."""
    _, data, factors = merge()
    add(merged, factors.left.tobytes(), dtype="F32")
    before = merged.path(digest_of(factors.left.tobytes())).read_bytes()
    with Replacements(merged, Lineage(merged)) as to:
        frame = write_merge(merged, to)
        assert len(frame.factors) == 1
        to.keep(frame)
        assert to.publish() == [frame]
    assert merged.path(digest_of(factors.left.tobytes())).read_bytes() == before
    assert merged.read(digest_of(data)) == data


def test_damaged_factors_are_replaced(merged: BlobStore):
    """A frame is never put on a factor that cannot be read."""
    _, data, factors = merge()
    name, _ = add(merged, factors.right.tobytes(), dtype="F32")
    frame = merged.path(name).read_bytes()
    damage(merged.path(name), frame[:-1] + bytes([frame[-1] ^ 1]))
    with Replacements(merged, Lineage(merged)) as to:
        to.keep(write_merge(merged, to))
        assert len(to.publish()) == 1
    assert merged.is_sound(name)
    assert merged.read(digest_of(data)) == data


def test_a_product_whose_factor_became_deep_is_dropped(merged: BlobStore):
    """A factor that somebody published deeper meanwhile is not built on."""
    _, data, factors = merge()
    left, right = (side.tobytes() for side in (factors.left, factors.right))
    with Replacements(merged, Lineage(merged)) as to:
        to.keep(write_merge(merged, to))
        put_frame(merged, right, ids.RAW, dtype="F32")
        put_frame(merged, left, ids.STEPS, digest_of(right), dtype="F32")
        assert to.publish() == []
    assert merged.header(digest_of(data)).depth == 0
    assert merged.read(digest_of(data)) == data


def test_a_dropped_product_leaves_nothing(merged: BlobStore):
    """Neither the frame nor its factors stay, staged or published."""
    before = set(merged.iter_digests())
    with Replacements(merged, Lineage(merged)) as to:
        to.drop(write_merge(merged, to))
        assert not [path for path in (merged.root / "tmp").rglob("*") if path.is_file()
                    and path.suffix not in {".lock", ".owner"}]  # fmt: skip
    assert set(merged.iter_digests()) == before


def test_a_product_on_the_deepest_base_is_not_made(store: BlobStore):
    """What would be too deep is not staged, and neither are its factors."""
    base, data, factors = merge()
    chain = [*fine_tuned(DEEPEST, ROWS * COLUMNS)[1:], (as_bits(base, BF16) ^ 3).tobytes()]
    put_frame(store, chain[0], ids.RAW)
    for below, above in zip(chain, [*chain[1:], base], strict=True):
        put_frame(store, above, ids.STEPS, digest_of(below))
    assert store.header(digest_of(base)).depth == DEEPEST
    put_frame(store, data, ids.RAW)
    with Replacements(store, Lineage(store)) as to, opened(store.path, digest_of(base)) as reader:
        source = BytesSource(data)
        assert to.write_product(digest_of(data), source, BF16, COLUMNS, reader, factors) is None
        assert list(to._staging.directory.iterdir()) == []


def test_killed_at_any_step_a_product_is_whole_or_not_there(merged: BlobStore, tmp_path: Path):
    """Whatever change of the disk it died before, the merge reads as before or as a product."""
    _, data, factors = merge()
    names = [digest_of(side.tobytes()) for side in (factors.left, factors.right)]

    def put(store: BlobStore) -> None:
        with Replacements(store, Lineage(store)) as to:
            to.keep(write_merge(store, to))
            to.publish()

    step, died = 1, True
    while died:
        shutil.copytree(merged.root, tmp_path / f"at{step}")
        work = BlobStore(tmp_path / f"at{step}", threads=1, block_log2=8)
        died = crashes(lambda work=work: put(work), step)
        header = work.header(digest_of(data))
        assert set(header.built_on[1:]) in (set(), set(names))
        assert work.is_sound(digest_of(data))
        assert work.read(digest_of(data)) == data
        step += 1
    assert step > 12

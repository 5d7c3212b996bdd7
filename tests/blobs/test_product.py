"""Tensors that are stored as their base and the product that was added to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelstore.blobs import Added, BlobStore, BytesSource, Known
from modelstore.blobs.choice import DEEPEST
from modelstore.blobs.product import Product
from modelstore.codecs import ids
from modelstore.codecs.factors import Factors, Recipe
from modelstore.codecs.prediction import predict
from modelstore.errors import ConflictError
from modelstore.hashing import Digest, digest_of
from modelstore.numeric import as_bits, dtype_named
from tests.blobs.conftest import BF16, add, damage, store_at
from tests.frames import put_frame

F32 = dtype_named("F32")
ROWS, COLUMNS, RANK = 64, 512, 2
RECIPE = Recipe(RANK, COLUMNS, F32, F32, 2.0)


def _base() -> bytes:
    values = (np.random.default_rng(1).standard_normal(ROWS * COLUMNS) * 0.02).astype("<f4")
    return (values.view("<u4") >> 16).astype("<u2").tobytes()


def _product(seed: int) -> Product:
    random = np.random.default_rng(seed)
    left, right = random.standard_normal((ROWS, RANK)), random.standard_normal((RANK, COLUMNS))
    pair = ((0.02 * matrix).astype("<f4").tobytes() for matrix in (left, right))
    return Product(*pair, RECIPE)


def _merged(base: bytes, product: Product) -> bytes:
    factors = Factors.from_blobs(product.recipe, product.left, product.right)
    return predict(as_bits(base, BF16), BF16, 0, factors).tobytes()


def _add(
    store: BlobStore, data: bytes, product: Product, *, bases: list[bytes], others: list[bytes]
) -> tuple[Digest, Added]:
    digest = digest_of(data)
    with store.transaction() as transaction:
        added = transaction.add(
            digest,
            BytesSource(data),
            dtype=BF16,
            bases=map(digest_of, bases),
            known=Known(COLUMNS, map(digest_of, others), product),
        )
        transaction.publish()
    return digest, added


def _size(store: BlobStore) -> int:
    return sum(store.path(digest).stat().st_size for digest in store.iter_digests())


def test_what_is_added_counts_the_product(tmp_path: Path):
    """The matrices of a product are frames that were made, too; the second time they are there."""
    store = store_at(tmp_path, block_log2=20)
    base, product = _base(), _product(2)
    add(store, base)
    before = _size(store)
    digest, added = _add(store, _merged(base, product), product, bases=[base], others=[])
    assert (added.codec, added.new) == ("lowrank", 3)
    assert added.stored_size == _size(store) - before
    again = _add(store, _merged(base, product), product, bases=[base], others=[])
    assert (again[0], again[1].new) == (digest, 0)
    assert store.read(digest) == _merged(base, product)


def test_a_base_from_elsewhere_will_do(tmp_path: Path):
    """Where a line has no tensor of that name, the one of another model is what was merged into."""
    store = store_at(tmp_path, block_log2=20)
    base, product = _base(), _product(2)
    add(store, base)
    digest, added = _add(store, _merged(base, product), product, bases=[], others=[base])
    assert added.codec == "lowrank"
    assert store.header(digest).base == digest_of(base)


def test_no_merge_is_deeper_than_other_frames(tmp_path: Path):
    """On the deepest frames no product is built, so that reading a long chain stays fast."""
    store = store_at(tmp_path, block_log2=20)
    chain = [_base()]
    add(store, chain[0])
    depths, codecs = [], []
    for seed in range(2, DEEPEST + 3):
        product = _product(seed)
        chain.append(_merged(chain[-1], product))
        digest, added = _add(store, chain[-1], product, bases=[chain[-2], chain[0]], others=[])
        depths.append(store.header(digest).depth)
        codecs.append(added.codec)
    assert depths[:DEEPEST] == [1, 2, 3, 4]
    assert codecs[:DEEPEST] == ["lowrank"] * DEEPEST
    assert max(depths) == DEEPEST
    assert codecs[DEEPEST] != "lowrank"


def test_integers_take_the_place_of_matrices_that_nobody_has(tmp_path: Path):
    """A new adapter's floats are not stored where integers that predict as much are smaller."""
    store = store_at(tmp_path, block_log2=20)
    base, product = _base(), _product(2)
    add(store, base)
    digest, _ = _add(store, _merged(base, product), product, bases=[base], others=[])
    names = store.header(digest).factors
    assert names is not None
    recipe = Recipe.from_bytes(names.recipe)
    assert {recipe.left.name, recipe.right.name} <= {"U8", "U16"}
    assert digest_of(product.left) not in store


def test_matrices_that_are_there_are_used(tmp_path: Path):
    """Where the adapter's blobs are in the store, the tensor is exactly what they predict."""
    store = store_at(tmp_path, block_log2=20)
    base, product = _base(), _product(2)
    for data in (base, product.left, product.right):
        add(store, data)
    digest, added = _add(store, _merged(base, product), product, bases=[base], others=[])
    names = store.header(digest).factors
    assert names is not None
    assert (names.left, names.right) == (digest_of(product.left), digest_of(product.right))
    assert added.new == 1
    assert added.stored_size < 400


def test_a_base_that_is_no_matrix_of_the_product_is_passed_over(tmp_path: Path):
    """Another size, another dtype and a product of another shape leave the plain frame."""
    store = store_at(tmp_path, block_log2=20)
    base, product = _base(), _product(2)
    data = _merged(base, product)
    add(store, base[:-COLUMNS])
    _, added = _add(store, data, product, bases=[base[:-COLUMNS]], others=[])
    assert added.codec != "lowrank"
    turned = Product(product.left, product.right, replace(RECIPE, columns=COLUMNS // 2, rank=4))
    other = _merged(base, _product(3))
    add(store, base)
    assert _add(store, other, turned, bases=[base], others=[])[1].codec != "lowrank"


def test_a_product_of_another_tensor_is_not_used(tmp_path: Path):
    """What was not added predicts nothing, and none of it is stored."""
    store = store_at(tmp_path, block_log2=20)
    base = _base()
    add(store, base)
    _, added = _add(store, _merged(base, _product(2)), _product(9), bases=[base], others=[])
    assert (added.codec, added.new) == ("steps", 1)
    assert len(list(store.iter_digests())) == 2


def test_values_that_are_no_numbers_are_kept(tmp_path: Path):
    """Infinities and NaNs of a base stay, so they are predicted; integers are not tried there."""
    store = store_at(tmp_path, block_log2=20)
    bits = np.frombuffer(_base(), "<u2").copy()
    bits[::777] = 0x7F80
    bits[5::777] = 0xFFC1
    base, product = bits.tobytes(), _product(2)
    add(store, base)
    data = _merged(base, product)
    digest, _ = _add(store, data, product, bases=[base], others=[])
    assert store.read(digest) == data


def test_a_damaged_blob_is_healed_alone(tmp_path: Path):
    """What others may be built on is never made deeper, whatever is known of it."""
    store = store_at(tmp_path, block_log2=20)
    base, product = _base(), _product(2)
    data = _merged(base, product)
    add(store, base)
    digest, _ = add(store, data)
    damage(store.path(digest), b"junk")
    _, added = _add(store, data, product, bases=[base], others=[])
    assert (added.new, store.header(digest).depth) == (1, 0)


def test_a_factor_that_goes_meanwhile_stops_the_commit(tmp_path: Path):
    """A matrix that was there when the tensor was staged and is gone later is a conflict."""
    store = store_at(tmp_path, block_log2=20)
    base, product = _base(), _product(2)
    data = _merged(base, product)
    for known in (base, product.left, product.right):
        add(store, known)
    with store.transaction() as transaction:
        found = Known(COLUMNS, (), product)
        bases = [digest_of(base)]
        source = BytesSource(data)
        transaction.add(digest_of(data), source, dtype=BF16, bases=bases, known=found)
        store.path(digest_of(product.right)).unlink()
        with pytest.raises(ConflictError, match=digest_of(product.right)):
            transaction.publish()
    assert digest_of(data) not in store


def test_deep_matrices_are_not_built_on(tmp_path: Path):
    """Where an adapter's own blobs end a long chain, the tensor does without them."""
    store = store_at(tmp_path, block_log2=20)
    base, product = _base(), _product(2)
    add(store, base)
    chain = [product.left]
    for _ in range(DEEPEST):
        chain.append((np.frombuffer(chain[-1], "<u4") + 1).astype("<u4").tobytes())
    put_frame(store, chain[-1], ids.RAW, dtype="F32")
    for data, below in zip(chain[-2::-1], chain[:0:-1], strict=True):
        put_frame(store, data, ids.STEPS, digest_of(below), dtype="F32")
    assert store.header(digest_of(product.left)).depth == DEEPEST
    digest, _ = _add(store, _merged(base, product), product, bases=[base], others=[])
    assert store.header(digest).depth <= DEEPEST
    assert digest_of(product.left) not in store.header(digest).built_on
    assert store.read(digest) == _merged(base, product)


def test_a_useless_product_does_not_keep_from_other_bases(tmp_path: Path):
    """Where no base is worth it, others are looked at as they are without a product."""
    store = store_at(tmp_path, block_log2=20)
    base, product = _base(), _product(2)
    unrelated = np.random.default_rng(8).permutation(np.frombuffer(base, "<u2")).tobytes()
    near = (np.frombuffer(base, "<u2") ^ 1).astype("<u2").tobytes()
    for data in (unrelated, near):
        add(store, data)
    digest, _ = _add(store, base, product, bases=[unrelated], others=[near])
    assert store.header(digest).base == digest_of(near)

"""Tensors that are stored as their base and the product that was added to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modelstore.blobs import Added, BlobStore, BytesSource
from modelstore.blobs.choice import DEEPEST
from modelstore.blobs.product import Product
from modelstore.codecs.factors import Factors, Recipe
from modelstore.codecs.prediction import predict
from modelstore.hashing import Digest, digest_of
from modelstore.numeric import as_bits, dtype_named
from tests.blobs.conftest import BF16, add, store_at

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
            others=map(digest_of, others),
            columns=COLUMNS,
            product=product,
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

"""Which base a blob gets: the one that codes best, and never at the cost of what comes later."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from modelstore.blobs import BlobStore, BytesSource, Known
from modelstore.blobs.choice import DEEPEST
from modelstore.codecs.convert import convert
from modelstore.errors import NewerFormatError
from modelstore.hashing import Digest, digest_of
from modelstore.numeric import as_bits, dtype_named
from tests.blobs.conftest import BF16, add, damage, fine_tuned, resealed

F32 = dtype_named("F32")


def widened(data: bytes, noise: int = 0) -> bytes:
    """Return bf16 bytes as fp32, the lowest bits moved by up to ``noise``."""
    wide = convert(as_bits(data, BF16), BF16, F32)
    return (wide + np.random.default_rng(3).integers(0, noise + 1, wide.size, "u4")).tobytes()


def test_an_exact_widening_costs_nothing(store: BlobStore):
    """An fp32 tensor that holds the values of a bf16 one is a byte a block."""
    narrow = fine_tuned(1)[0]
    add(store, narrow)
    digest, _ = add(store, widened(narrow), narrow, dtype="F32")
    header = store.header(digest)
    assert (header.base, header.base_dtype, header.dtype) == (digest_of(narrow), BF16, F32)
    assert header.stored_size == header.offsets[0] + header.block_count
    assert store.read(digest) == widened(narrow)


@pytest.mark.parametrize("dtype", ["F32", "F16", "F64"])
def test_a_base_may_be_of_another_kind(store: BlobStore, dtype: str):
    """A tensor is built on one of fewer bits that it came from, and the other way round."""
    first, second = fine_tuned(2)
    kind = dtype_named(dtype)
    other = convert(as_bits(second, BF16), BF16, kind).tobytes()
    add(store, first)
    wide, added = add(store, other, first, dtype=dtype)
    assert added.built_on == (digest_of(first),)
    narrow, added = add(store, second, other)
    assert added.built_on == (wide,)
    assert (store.read(wide), store.read(narrow)) == (other, second)


def test_integers_are_never_converted(store: BlobStore):
    """A tensor of integers is no base for one of integers of another width."""
    values = np.random.default_rng(1).integers(0, 100, 2000).astype("<i4")
    add(store, values.tobytes(), dtype="I32")
    assert (
        add(store, values.astype("<i8").tobytes(), values.tobytes(), dtype="I64")[1].built_on == ()
    )
    assert add(store, (values + 1).tobytes(), values.tobytes(), dtype="I32")[1].built_on


def test_a_base_that_this_mstore_cannot_convert_is_newer(store: BlobStore):
    """A frame built on numbers without a conversion asks for an update."""
    old, new = fine_tuned(2)
    add(store, old)
    digest, _ = add(store, new, old)
    path = store.path(digest)
    damage(path, resealed(path.read_bytes(), 11, bytes([dtype_named("I16").code])))
    with pytest.raises(NewerFormatError, match="convert"):
        store.read(digest)


def test_others_are_looked_at_only_in_need(store: BlobStore):
    """What is offered beside the bases is not even asked for when one of these is worth it."""
    old, new, later = fine_tuned(3)
    add(store, old)
    asked = []

    def others() -> Iterator[Digest]:
        asked.append("others")
        yield digest_of(old)

    def stage(data: bytes, *bases: bytes) -> tuple[Digest, ...]:
        with store.transaction() as transaction:
            return transaction.add(
                digest_of(data),
                BytesSource(data),
                dtype=BF16,
                bases=[digest_of(base) for base in bases],
                known=Known(others=others()),
            ).built_on

    assert (stage(new, old), asked) == ((digest_of(old),), [])
    assert (stage(later, later[::-1]), asked) == ((digest_of(old),), ["others"])


def test_a_chain_comes_to_no_end(store: BlobStore):
    """Along twenty versions frames stay shallow, increments small, and everything comes back."""
    versions = fine_tuned(21)
    sizes, nearest = [], []
    for index, data in enumerate(versions):
        bases = versions[max(0, index - 1) : index]
        digest, added = add(store, data, *bases)
        sizes.append(added.stored_size)
        assert store.header(digest).depth <= DEEPEST
        if index:  # what it would be if chains could be as long as one likes
            store_alone = BlobStore(store.root.parent / f"{index}", block_log2=8)
            store_alone.create()
            add(store_alone, bases[0])
            nearest.append(add(store_alone, data, bases[0])[1].stored_size)
    assert sum(sizes[1:]) < 1.35 * sum(nearest)
    assert [store.read(digest_of(data)) for data in versions] == versions


def test_an_end_of_a_chain_gives_way_to_the_best_of_a_short_one(store: BlobStore):
    """A parent that is too deep is no reason to take a base that is worse than another offered."""
    versions = fine_tuned(7)
    for index in range(DEEPEST + 1):
        add(store, versions[index], *versions[max(0, index - 1) : index])
    assert store.header(digest_of(versions[DEEPEST])).depth == DEEPEST
    near = versions[5]
    add(store, near)
    _, added = add(store, versions[6], versions[DEEPEST], near)
    assert added.built_on == (digest_of(near),)


def test_a_damaged_ancestor_is_passed_over(store: BlobStore):
    """A base whose own base is damaged gives way to a sound one."""
    first, second, third = fine_tuned(3)
    root, _ = add(store, first)
    add(store, second, first)
    frame = bytearray(store.path(root).read_bytes())
    frame[-1] ^= 1
    damage(store.path(root), bytes(frame))
    digest, added = add(store, third, second, first)
    assert added.built_on == ()
    assert store.read(digest) == third


def test_a_lost_blob_is_not_built_on_its_own_descendant(store: BlobStore):
    """What comes back gets no base that needs it."""
    old, new = fine_tuned(2)
    add(store, old)
    add(store, new, old)
    store.path(digest_of(old)).unlink()
    assert add(store, old, new)[1].built_on == ()
    assert (store.read(digest_of(old)), store.read(digest_of(new))) == (old, new)

"""What every codec must do, whatever it is; `tests/codecs/test_contract.py` runs it over all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.codecs.base import NO_GRID, Bits, Codec, PayloadError
from modelstore.codecs.blocks import decode_block, encode_block
from modelstore.numeric import DTYPES, DType, as_bits


def special_values(dtype: DType) -> Iterator[int]:
    """Yield the bit patterns that codecs tend to lose: zeros, extremes, and for floats NaNs."""
    bits = 8 * dtype.width
    top = 1 << (bits - 1)
    yield from (0, 1, top - 1, top, top + 1, (1 << bits) - 1)
    infinity = ((1 << dtype.exponent) - 1) << dtype.mantissa
    one = ((1 << max(dtype.exponent - 1, 0)) - 1) << dtype.mantissa
    for pattern in (infinity, infinity + 1, infinity | (1 << dtype.mantissa >> 1), one, one + 1):
        yield pattern % (1 << bits)
        yield pattern % (1 << bits) ^ top


@st.composite
def blocks(draw: st.DrawFn, dtype: DType) -> tuple[bytes, bytes]:
    """Draw the raw bytes of a block and of a base: alike, unlike, shorter or empty."""
    mask = (1 << 8 * dtype.width) - 1
    value = st.sampled_from(sorted(set(special_values(dtype)))) | st.integers(0, mask)
    values = draw(st.lists(value, min_size=1, max_size=40)) * draw(st.integers(1, 6))
    steps = draw(st.lists(st.integers(-3, 3), min_size=1, max_size=20))
    near = [(v + steps[i % len(steps)]) & mask for i, v in enumerate(values)]
    base = draw(st.sampled_from((near, values, [~v & mask for v in values])))
    return _raw(values, dtype), _raw(base[: draw(st.integers(0, len(base)))], dtype)


def _raw(values: list[int], dtype: DType) -> bytes:
    return np.array(values, f"<u{dtype.width}").tobytes()


all_blocks = st.sampled_from(DTYPES).flatmap(lambda d: st.tuples(st.just(d), blocks(d)))


_shared = settings(
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow]
)  # the methods are inherited by several classes


class CodecContract:
    """A subclass names the codec."""

    codec: ClassVar[Codec]

    @_shared
    @given(drawn=all_blocks)
    def test_gives_back_every_bit(self, drawn: tuple[DType, tuple[bytes, bytes]]):
        """Decoding with the same base gives exactly what was encoded."""
        dtype, (raw, base) = drawn
        for given_base in (None, base or None):
            if given_base is not None and not self.codec.info.takes_base:
                continue
            base_values = None if given_base is None else as_bits(given_base, dtype)
            values = as_bits(raw, dtype)
            body = self.codec.encode(values, dtype, base_values, NO_GRID)
            assert self.codec.decode(body, values.size, dtype, base_values).tobytes() == raw

    @_shared
    @given(drawn=all_blocks)
    def test_blocks_grow_by_one_byte_at_most(self, drawn: tuple[DType, tuple[bytes, bytes]]):
        """A payload is never longer than the raw bytes and the byte that says so."""
        dtype, (raw, base) = drawn
        base_raw = (base or None) if self.codec.info.takes_base else None
        payload = encode_block(self.codec.info, raw, dtype, base_raw)
        assert 1 <= len(payload) <= len(raw) + 1
        assert decode_block(self.codec.info, payload, len(raw), dtype, base_raw) == raw

    @_shared
    @given(drawn=all_blocks, data=st.data())
    def test_refuses_or_decodes_damage(
        self, drawn: tuple[DType, tuple[bytes, bytes]], data: st.DataObject
    ):
        """A damaged payload gives a block of the right size or a PayloadError, nothing else."""
        dtype, (raw, base) = drawn
        base_raw = (base or None) if self.codec.info.takes_base else None
        payload = bytearray(encode_block(self.codec.info, raw, dtype, base_raw))
        place = data.draw(st.integers(0, len(payload) - 1))
        payload[place] ^= data.draw(st.integers(1, 255))
        cut = data.draw(st.sampled_from((payload, payload[:place], payload + b"\0")))
        try:
            decoded = decode_block(self.codec.info, cut, len(raw), dtype, base_raw)
        except PayloadError:
            return
        assert len(decoded) == len(raw)

    @_shared
    @given(body=st.binary(max_size=60), count=st.integers(1, 50), dtype=st.sampled_from(DTYPES))
    def test_refuses_or_decodes_anything(self, body: bytes, count: int, dtype: DType):
        """Arbitrary bytes give the asked number of values or a PayloadError."""
        base: Bits | None = None
        if self.codec.info.takes_base:
            base = np.arange(count).astype(f"<u{dtype.width}")
        try:
            values = self.codec.decode(body, count, dtype, base)
        except PayloadError:
            return
        assert values.size == count
        assert values.itemsize == dtype.width

    def test_does_not_change_its_input(self):
        """Encoding and decoding leave read-only input alone."""
        values = np.arange(1000).astype("<u2")
        base = values[::-1].copy()
        values.flags.writeable = base.flags.writeable = False
        base_values = base if self.codec.info.takes_base else None
        body = self.codec.encode(values, DTYPES[14], base_values, NO_GRID)
        assert (self.codec.decode(body, 1000, DTYPES[14], base_values) == values).all()

    def test_is_deterministic(self):
        """The same block gives the same bytes."""
        values = np.random.default_rng(1).integers(0, 1 << 16, 5000).astype("<u2")
        assert self.codec.encode(values, DTYPES[14], None, NO_GRID) == self.codec.encode(
            values, DTYPES[14], None, NO_GRID
        )

    @pytest.mark.parametrize("size", [1, 2, 255, 256, 257])
    def test_any_length(self, size: int):
        """Odd and tiny blocks come back."""
        values = np.random.default_rng(size).integers(0, 1 << 32, size).astype("<u4")
        body = self.codec.encode(values, DTYPES[15], None, NO_GRID)
        assert self.codec.decode(body, size, DTYPES[15], None).tobytes() == values.tobytes()

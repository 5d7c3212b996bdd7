"""Blocks and their codecs: what falls out, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard

from modelstore.codecs import ids, streams, zstd
from modelstore.codecs.base import PayloadError
from modelstore.codecs.blocks import coded_size, decode_block, encode_block
from modelstore.codecs.table import CODECS
from modelstore.numeric import dtype_named

BF16, F32 = dtype_named("BF16"), dtype_named("F32")


def weights(count: int, seed: int = 0, scale: float = 0.02) -> np.ndarray:
    """Return ``count`` normal fp32 weights."""
    return (np.random.default_rng(seed).standard_normal(count) * scale).astype("<f4")


def bf16(values: np.ndarray) -> bytes:
    """Return the bytes of fp32 ``values`` cut to bf16."""
    return (values.view("<u4") >> 16).astype("<u2").tobytes()


def test_ids_are_indices():
    """A codec's id is its place in both tables."""
    assert [codec.info for codec in CODECS] == list(ids.CODEC_INFOS)
    assert [info.id for info in ids.CODEC_INFOS] == list(range(len(CODECS)))
    assert ids.info_of_id(len(CODECS)) is None


def test_unchanged_block_is_one_byte():
    """A block that equals its base is found by comparison."""
    raw = bf16(weights(4096))
    assert len(encode_block(ids.DELTA, raw, BF16, raw)) == 1


def test_constant_block_is_one_value():
    """A block of one repeated value costs that value, whatever the codec."""
    raw = b"\x80\x3f" * 4096
    for info in ids.CODEC_INFOS:
        assert len(encode_block(info, raw, BF16, None)) == 3


def test_noise_costs_one_byte_more():
    """A block that does not compress is stored as it is."""
    raw = np.random.default_rng(0).bytes(4096)
    assert len(encode_block(ids.ZSTD, raw, dtype_named(""), None)) == 4097


def test_bf16_held_in_fp32_costs_no_more_than_bf16():
    """The planes that are zero fall out."""
    values = weights(1 << 16)
    narrow = bf16(values)
    wide = (np.frombuffer(narrow, "<u2").astype("<u4") << 16).tobytes()
    assert coded_size(ids.PLANES, wide, F32, None) <= coded_size(ids.PLANES, narrow, BF16, None) + 4


def test_delta_is_far_smaller_than_planes_after_a_small_step():
    """A fine-tune of small steps costs a fraction of the weights."""
    base = weights(1 << 17)
    raw = bf16(base + weights(1 << 17, 1, 1e-5))
    alone = coded_size(ids.PLANES, raw, BF16, None)
    assert coded_size(ids.DELTA, raw, BF16, bf16(base)) < alone / 5


def test_same_needs_a_base_that_reaches_as_far():
    """Being the same as the base is refused without a base, or with a shorter one."""
    for base in (None, b"\0\0"):
        with pytest.raises(PayloadError):
            decode_block(ids.DELTA, b"\x02", 4, BF16, base)


@pytest.mark.parametrize("payload", [b"", b"\x04", b"\x00\x00", b"\x01\x00", b"\x02\x00", b"\x03"])
def test_malformed_payloads_are_refused(payload: bytes):
    """Empty, unknown, short and overlong payloads are errors."""
    with pytest.raises(PayloadError):
        decode_block(ids.PLANES, payload, 8, BF16, None)


def test_a_bomb_is_refused_before_it_is_unpacked():
    """A zstd frame that states another size than the block's is not decompressed."""
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    with pytest.raises(PayloadError):
        zstd.decompress(bomb, 4096)


def test_a_zstd_frame_must_state_its_size():
    """Without a stated size nothing is decompressed."""
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(4096))
    with pytest.raises(PayloadError):
        zstd.decompress(silent, 4096)


def test_field_too_large_is_refused():
    """Unused bits of a plane must be zero."""
    packed = streams.pack(np.full((3, 4), 0xFF, np.uint8))
    with pytest.raises(PayloadError):
        CODECS[ids.PLANES.id].decode(packed, 4, dtype_named("F16"), None)

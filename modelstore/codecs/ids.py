"""The codecs that frames can name; part of the disk format, append-only.

Loads neither numpy nor numba, so a header can be read without them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CodecInfo:
    """What a header needs to know of a codec.

    Attributes:
        id: its number in a frame header; never reused.
        name: what reports call it.
        takes_base: whether its frames are made against another blob.
        takes_factors: whether two more blobs, and a recipe, tell what the base becomes.
    """

    id: int
    name: str
    takes_base: bool = False
    takes_factors: bool = False


RAW = CodecInfo(0, "raw")
ZSTD = CodecInfo(1, "zstd")
PLANES = CodecInfo(2, "planes")
DELTA = CodecInfo(3, "delta", takes_base=True)
ENTROPY = CodecInfo(4, "entropy")
STEPS = CodecInfo(5, "steps", takes_base=True)
LOWRANK = CodecInfo(6, "lowrank", takes_base=True, takes_factors=True)

CODEC_INFOS: tuple[CodecInfo, ...] = (RAW, ZSTD, PLANES, DELTA, ENTROPY, STEPS, LOWRANK)
"""Every codec, at the index of its id."""


def info_of_id(number: int) -> CodecInfo | None:
    """Return the codec with this id, None where this mstore knows none."""
    return CODEC_INFOS[number] if 0 <= number < len(CODEC_INFOS) else None

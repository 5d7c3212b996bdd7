"""The codecs themselves, at the index of their ids; append-only."""

from __future__ import annotations

from modelstore.codecs.base import Codec
from modelstore.codecs.delta import DeltaCodec
from modelstore.codecs.entropy import EntropyCodec
from modelstore.codecs.planes import PlanesCodec
from modelstore.codecs.raw import RawCodec
from modelstore.codecs.steps import LowRankCodec, StepsCodec
from modelstore.codecs.zstd import ZstdCodec

CODECS: tuple[Codec, ...] = (
    RawCodec(),
    ZstdCodec(),
    PlanesCodec(),
    DeltaCodec(),
    EntropyCodec(),
    StepsCodec(),
    LowRankCodec(),
)
"""Every codec, at the index of its id."""

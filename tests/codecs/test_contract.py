"""Every codec against the one contract."""

from __future__ import annotations

from modelstore.codecs.delta import DeltaCodec
from modelstore.codecs.entropy import EntropyCodec
from modelstore.codecs.planes import PlanesCodec
from modelstore.codecs.raw import RawCodec
from modelstore.codecs.steps import StepsCodec
from modelstore.codecs.zstd import ZstdCodec
from tests.contracts.codec import CodecContract


class TestRaw(CodecContract):
    """Values as they are."""

    codec = RawCodec()


class TestZstd(CodecContract):
    """One zstd frame."""

    codec = ZstdCodec()


class TestPlanes(CodecContract):
    """Fields in planes."""

    codec = PlanesCodec()


class TestDelta(CodecContract):
    """Differences to a base."""

    codec = DeltaCodec()


class TestEntropy(CodecContract):
    """Bytes near their entropy."""

    codec = EntropyCodec()


class TestSteps(CodecContract):
    """Steps from a base."""

    codec = StepsCodec()

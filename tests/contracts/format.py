"""What every format promises; each is tested by a subclass of `FormatContract`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.formats.base import Format, MalformedError, Span
from modelstore.formats.split import split
from tests.builders import MemorySource
from tests.strategies import File, damaged

shared = settings(
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


def assert_covers(spans: Sequence[Span], size: int) -> None:
    """Assert that the spans cover ``size`` bytes exactly and in order."""
    position = 0
    for span in spans:
        assert span.start == position
        assert span.stop > span.start or span.tensors
        position = span.stop
    assert position == size


class FormatContract:
    """Tests that a format of tensors passes."""

    format: ClassVar[Format]
    files: ClassVar[st.SearchStrategy[File]]

    @given(st.data())
    @shared
    def test_finds_every_tensor_with_its_bytes(self, data: st.DataObject) -> None:
        """A span holds each tensor that was written: same name, dtype, shape and bytes."""
        content, tensors = data.draw(self.files)
        result = split(MemorySource(content))
        assert (result.format, result.warning) == (self.format.name, "")
        assert_covers(result.spans, len(content))
        found = {
            tensor.name: (tensor.dtype, tensor.shape, content[span.start : span.stop], tensor.view)
            for span in result.spans
            for tensor in span.tensors
        }
        assert found == {n: (t.dtype, t.shape, t.data, None) for n, t in tensors.items()}

    @given(st.data())
    @shared
    def test_survives_damage(self, data: st.DataObject) -> None:
        """A damaged file is refused as malformed, or cut into spans that cover it exactly."""
        content, _ = data.draw(self.files)
        content = data.draw(damaged(content))
        with suppress(MalformedError):
            assert_covers(self.format.spans(MemorySource(content)), len(content))
        assert split(MemorySource(content)).warning.isprintable()

    @given(st.data())
    @settings(shared, max_examples=5)
    def test_survives_every_truncation(self, data: st.DataObject) -> None:
        """A file cut anywhere still splits, as opaque bytes unless nothing that matters is gone."""
        content, _ = data.draw(self.files)
        for size in range(len(content)):
            result = split(MemorySource(content[:size], "model.safetensors"))
            assert_covers(result.spans, size)

    @given(st.binary(max_size=200))
    @shared
    def test_survives_noise(self, content: bytes) -> None:
        """Noise is refused as malformed, and nothing else happens."""
        with pytest.raises(MalformedError):
            self.format.spans(MemorySource(content))

    @given(st.data())
    @settings(shared, max_examples=20)
    def test_is_deterministic(self, data: st.DataObject) -> None:
        """The same bytes give the same spans, whatever the file is called."""
        content, _ = data.draw(self.files)
        first = split(MemorySource(content, "a.bin"))
        assert split(MemorySource(content, "b")) == first

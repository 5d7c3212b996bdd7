"""How the golden frames in `tests/data/frames` were made: ``python -m tests.blobs.golden``.

They are never made anew: a frame that an mstore has written must be readable for ever. Running
this adds the frames of new kinds and leaves the others alone.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from modelstore.blobs import BlobStore, BytesSource
from modelstore.blobs.choice import Choice
from modelstore.blobs.encode import Encoding
from modelstore.blobs.reader import opened
from modelstore.codecs import ids
from modelstore.codecs.ids import CodecInfo
from modelstore.hashing import digest_of
from modelstore.numeric import dtype_named

FRAMES = Path(__file__).parent.parent / "data" / "frames"

_COUNT = 900  # values: four blocks of 256, the last one short


def numbers(width: int, seed: int) -> np.ndarray:
    """Return values that no library's random generator can change: a xorshift sequence."""
    state, result = seed * 2654435761 + 1, []
    for _ in range(_COUNT):
        state ^= (state << 13) & (2**64 - 1)
        state ^= state >> 7
        state ^= (state << 17) & (2**64 - 1)
        result.append(state >> 40)
    small = np.array(result, "<i8") - (1 << 23)
    if width == 8:
        return (small * 2.0**-29).astype("<f8").view("<u8")
    if width == 4:
        return (small * 2.0**-29).astype("<f4").view("<u4")
    return ((small * 2.0**-29).astype("<f4").view("<u4") >> 16).astype("<u2")


def step(values: np.ndarray, seed: int) -> np.ndarray:
    """Return values a few steps away: one block the same, one constant, two moved."""
    moved = values + (numbers(2, seed) % 5).astype(values.dtype) - 2
    moved = moved.astype(values.dtype)
    moved[:256] = values[:256]
    moved[256:512] = values[300]
    return moved


def cases() -> dict[str, tuple[CodecInfo, str, bytes, bytes | None]]:
    """Return the codec, dtype, bytes and base of every golden frame, by name."""
    text = b"".join(b"line %d of a text\n" % number for number in range(60))
    result: dict[str, tuple[CodecInfo, str, bytes, bytes | None]] = {
        "raw": (ids.RAW, "", numbers(2, 1).tobytes(), None),
        "empty": (ids.RAW, "", b"", None),
        "zstd": (ids.ZSTD, "", text, None),
    }
    kinds = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I32": 4, "F8_E4M3": 1, "F8_E8M0": 1}
    for seed, (dtype, width) in enumerate(kinds.items(), start=2):
        values = numbers(max(width, 2), seed)
        if width == 1:
            values = (values >> 8).astype("<u1")
        moved = step(values, seed)
        result[f"planes-{dtype}"] = (ids.PLANES, dtype, values.tobytes(), None)
        result[f"delta-{dtype}"] = (ids.DELTA, dtype, moved.tobytes(), values.tobytes())
    head = numbers(2, 2)[:700].tobytes()
    result["planes-prefix"] = (ids.PLANES, "BF16", head, None)
    result["delta-on-prefix"] = (ids.DELTA, "BF16", step(numbers(2, 2), 9).tobytes(), head)
    return result


def write(directory: Path) -> None:
    """Write the golden frames that ``directory`` does not have."""
    with tempfile.TemporaryDirectory() as scratch:
        store = BlobStore(Path(scratch))
        store.create()
        for name, (codec, dtype, raw, base) in cases().items():
            digest = digest_of(raw)
            with ExitStack() as stack:
                reader = None
                if base is not None:
                    reader = stack.enter_context(opened(store.path, digest_of(base)))
                choice = Choice(codec, reader)
                encoding = Encoding(digest, BytesSource(raw), dtype_named(dtype), choice, 8)
                encoding.write(store.path(digest), 1)
            target = directory / f"{name}.frame"
            if not target.exists():
                target.write_bytes(store.path(digest).read_bytes())


if __name__ == "__main__":
    write(FRAMES)

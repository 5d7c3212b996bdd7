"""Frames as other writers would have left them, put into a store by force."""

from __future__ import annotations

from modelstore.blobs import BlobStore, BytesSource, FrameHeader
from modelstore.blobs.choice import Choice
from modelstore.blobs.encode import Encoding
from modelstore.blobs.reader import opened
from modelstore.codecs.ids import CodecInfo
from modelstore.hashing import Digest, digest_of
from modelstore.numeric import dtype_named


def put_frame(
    blobs: BlobStore,
    data: bytes,
    codec: CodecInfo,
    base: Digest | None = None,
    *,
    dtype: str = "BF16",
) -> FrameHeader:
    """Give a blob exactly this frame, whatever it had before."""
    digest = digest_of(data)
    aside = blobs.root / f"{digest}.aside"
    kind = dtype_named(dtype)

    def write(choice: Choice) -> FrameHeader:
        encoding = Encoding(digest, BytesSource(data), kind, choice, blobs.block_log2)
        return encoding.write(aside, 1)

    if base is None:
        header = write(Choice(codec))
    else:
        with opened(blobs.path, base) as reader:
            header = write(Choice(codec, reader))
    aside.replace(blobs.path(digest))
    return header

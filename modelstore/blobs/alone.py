"""Decoding a frame that is built on no other, wherever its bytes are: manifests and small files."""

from __future__ import annotations

from modelstore.blobs.frame import parse_header, read_block
from modelstore.blobs.source import RawSource
from modelstore.errors import IntegrityError
from modelstore.hashing import Digest, digest_of


def read_alone(source: RawSource, digest: Digest, most: int) -> bytes:
    """Return the raw bytes of the blob whose frame ``source`` holds; they match its name.

    Args:
        source: the whole frame.
        digest: the name that the frame goes by.
        most: bytes that it has at most; a frame of a few bytes may claim, and give, terabytes.

    Raises:
        IntegrityError: it is damaged, built on another, or larger.
        NewerFormatError: it was written by a newer mstore.
    """
    from modelstore.codecs.base import PayloadError  # these load numpy
    from modelstore.codecs.blocks import decode_block

    header = parse_header(source, digest)
    if header.built_on or header.raw_size > most:
        what = "is built on another" if header.built_on else f"has over {most} bytes"
        raise IntegrityError(f"blob '{digest}' {what}, and is no manifest or small file")
    data = bytearray()
    for index in range(header.block_count):
        start, stop = header.raw_range(index)
        payload = read_block(source, header, index)
        try:
            data += decode_block(header.info, payload, stop - start, header.dtype, None)
        except PayloadError as error:
            raise IntegrityError(f"blob '{digest}' is damaged: block {index}: {error}") from error
    if digest_of(data) != digest:
        raise IntegrityError(f"blob '{digest}' is damaged: its bytes hash to '{digest_of(data)}'")
    return bytes(data)

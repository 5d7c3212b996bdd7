"""Blobs as they lie on disk: frames, and the store that keeps them by name.

Importing this loads neither numpy nor numba; encoding and decoding do.
"""

from modelstore.blobs.frame import FrameHeader, check_frame, parse_header
from modelstore.blobs.source import BytesSource, FileSource, RawSource
from modelstore.blobs.staging import remove_abandoned
from modelstore.blobs.store import BlobStore
from modelstore.blobs.transaction import Added, Known, Transaction

__all__ = [
    "BlobStore",
    "Transaction",
    "Added",
    "Known",
    "remove_abandoned",
    "FrameHeader",
    "parse_header",
    "check_frame",
    "RawSource",
    "BytesSource",
    "FileSource",
]

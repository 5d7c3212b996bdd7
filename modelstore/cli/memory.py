"""Memory of a command that ends soon: what is freed is kept, and used again.

Decoding takes and frees megabytes for every block. glibc gives each of these back to the system,
which then has to clear the next; that was an eighth of the processor time of a restore.
"""

from __future__ import annotations

import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MOST_ARENAS = -1, -3, -8  # mallopt(3)
_KEPT = 1 << 30


def keep_freed() -> None:
    """Let the allocator keep what is freed, in one place for all threads; only glibc is told."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        for setting, value in (
            (_TRIM_THRESHOLD, _KEPT),
            (_MMAP_THRESHOLD, _KEPT),
            (_MOST_ARENAS, 1),
        ):
            libc.mallopt(setting, value)

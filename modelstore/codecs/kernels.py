"""The arithmetic of the codecs: compiled where numba is to be had, in numpy elsewhere.

Both give the same bytes; a test holds them to it.
"""

from __future__ import annotations

try:
    from modelstore.codecs.kernels_numba import apply, differ, merge, split
except ImportError:  # numba has no build for every Python; everything stays readable without it
    from modelstore.codecs.kernels_numpy import apply, differ, merge, split

__all__ = ["apply", "differ", "merge", "split"]

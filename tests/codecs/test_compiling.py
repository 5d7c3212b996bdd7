"""Compiling is announced where it happens, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
from modelstore.progress import listening
with listening(print):
    import numpy as np
    from modelstore.codecs import rans_numba
    rans_numba.decode_table(np.array([[4096]], np.uint16), np.empty(4096, np.uint32))
"""


def remarks(cache: Path) -> list[str]:
    """Return what a process remarks that needs a compiled loop."""
    known = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=known, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.splitlines()


def test_compiling_is_announced_once(tmp_path: Path):
    """The first process that needs a loop says so, in one line; the next finds it compiled."""
    (line,) = remarks(tmp_path)
    assert line.startswith("Compiling the codec")
    assert remarks(tmp_path) == []

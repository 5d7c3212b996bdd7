"""Whether results may be used again: what is older than the sources of mstore is measured anew."""

from __future__ import annotations

from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "modelstore"


def is_fresh(path: Path) -> bool:
    """Tell whether results are there, and younger than every source file."""
    if not path.exists():
        return False
    return path.stat().st_mtime > max(source.stat().st_mtime for source in SOURCES.rglob("*.py"))

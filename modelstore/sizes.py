"""How sizes are written for people."""

from __future__ import annotations


def human_size(size: int) -> str:
    """Return ``size`` bytes for people: powers of 1000, as file managers and hubs count."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 999.5 or unit == "TB":
            break
        amount /= 1000
    return f"{size} B" if unit == "B" else f"{amount:.3g} {unit}"

"""Git for model weights: every fine-tune is a version, and a version costs what changed.

`open` gives a store, and `clone` makes one of what a remote has; see `modelstore.api`. Neither
numpy nor torch is loaded before they are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.errors import StoreError

if TYPE_CHECKING:
    from modelstore.api import Framework, ModelStore
    from modelstore.api import clone_store as clone
    from modelstore.api import open_store as open  # noqa: A004  (modelstore.open reads like open)

__version__ = "0.1.0"

__all__ = ["open", "clone", "ModelStore", "Framework", "StoreError", "__version__"]

_IN_API = {
    "open": "open_store",
    "clone": "clone_store",
    "ModelStore": "ModelStore",
    "Framework": "Framework",
}


def __dir__() -> list[str]:
    """Return every name, those too that are loaded when they are first asked for."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    """Load the API when it is first asked for: most commands do without (0.1 s)."""
    if name not in _IN_API:
        raise AttributeError(f"module 'modelstore' has no attribute {name!r}")
    from modelstore import api

    return getattr(api, _IN_API[name])

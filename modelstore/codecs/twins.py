"""Two modules with the same functions, one compiled, one plain numpy; which of them works now.

Loading numba and its compiled loops costs most of a second of CPU, in which numpy does millions of
values. So numpy does the first of them, and what is small never pays for numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Module = TypeVar("Module")


class Twins(Generic[Module]):
    """Chooses between two modules that give the same bytes.

    Attributes:
        left: values that are still left to the plain one.

    Args:
        plain: in numpy.
        compiled: loads the compiled one; may raise ImportError.
        few: values that numpy does before numba is loaded.
    """

    def __init__(self, plain: Module, compiled: Callable[[], Module], few: int) -> None:
        self._chosen = plain
        self._compiled = compiled
        self.left = few

    def for_count(self, count: int) -> Module:
        """Return the module that does the next ``count`` values."""
        # Two threads that come here at once load the same module, or count a little wrong: no matter.
        if self.left > 0:
            self.left -= count
            if self.left <= 0:
                self._load()
        return self._chosen

    def _load(self) -> None:
        try:
            self._chosen = self._compiled()
        except ImportError:  # numba has no build for every Python; everything stays readable
            return

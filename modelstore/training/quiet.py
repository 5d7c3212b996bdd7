"""Silence for libraries that greet, warn and draw bars: a command line's terminal is its own.

What matters of their warnings is checked by us and raised as an error instead.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("accelerate", "datasets", "huggingface_hub", "peft", "torch", "transformers", "trl")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the training libraries from writing to the terminal for the length of the block.

    Their settings are put back as they were; errors pass.
    """
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    had_bars = transformers_logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        transformers_logging.disable_progress_bar()
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            if had_bars:
                transformers_logging.enable_progress_bar()

"""The tiny model, as the tests of training have it."""

from __future__ import annotations

from tests.training.conftest import tiny_model as tiny_model

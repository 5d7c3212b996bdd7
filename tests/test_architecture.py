"""The source tree keeps the rules of `tests.architecture`, and the checker sees it when not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import architecture

ROOT = Path(__file__).resolve().parent.parent

PLANTED = [
    ("errors.py", "from modelstore.hashing import digest_of", "not below it"),
    ("hashing.py", "from modelstore import disk", "not below it"),
    ("codecs/delta.py", "import modelstore.formats.gguf", "not below it"),
    ("server/app.py", "def f():\n    from modelstore.training import run", "not below it"),
    ("training/run.py", "from modelstore.cli import main", "not below it"),
    ("disk.py", "from modelstore import __version__", "imports modelstore, which is not below"),
    ("oddments.py", "X = 1", "has no place in LAYERS"),
    ("ops/log.py", "from . import closure", "relative import"),
    ("store.py", "import click", "whose home is"),
    ("ops/log.py", "def f():\n    import torch", "whose home is"),
    ("ops/log.py", "import tempfile", "whose home is"),
    ("ops/log.py", "import pandas", "has no home"),
    ("training/run.py", "import torch", "imports torch at the top"),
    ("training/run.py", "class A:\n    import transformers", "at the top"),
    ("manifest.py", "import numpy as np", "has no home|whose home is"),
    ("store.py", "from modelstore.codecs import delta", "would be loaded by"),
    ("cli/log.py", "from modelstore.codecs.delta import encode", "would be loaded by"),
    ("ops/log.py", "from modelstore.ops import gc", "import cycle"),
    ("ops/log.py", "import os\nos.unlink('x')", "changes the disk"),
    ("ops/log.py", "from os import replace as swap\nswap('a', 'b')", "changes the disk"),
    ("ops/log.py", "import os\nos.open('x', os.O_RDONLY | os.O_CREAT)", "changes the disk"),
    ("ops/log.py", "import os\nos.open('x', flags)", "changes the disk"),
    ("ops/log.py", "open('x', 'wb')", "changes the disk"),
    ("ops/log.py", "open('x', mode=how)", "changes the disk"),
    ("ops/log.py", "def f(p):\n    p.open('r+b')", "changes the disk"),
    ("ops/log.py", "def f(p, q):\n    p.replace(q)", "changes the disk"),
    ("ops/log.py", "def f(p):\n    p.with_suffix('.x').write_text('x')", "changes the disk"),
    ("ops/log.py", "import shutil\nshutil.rmtree('x')", "changes the disk"),
    ("ops/log.py", "print('x')", "belongs to modelstore.cli"),
    ("ops/log.py", "import sys\nsys.exit(1)", "belongs to modelstore.cli"),
    ("ops/log.py", "raise SystemExit(1)", "belongs to modelstore.cli"),
    ("ops/log.py", "from os import environ\nX = environ['X']", "belongs to modelstore.cli"),
    ("formats/torch_zip.py", "import pickle", "can run what it reads"),
    ("formats/torch_zip.py", "from pickle import loads", "can run what it reads"),
    ("integrations/hf.py", "import torch\ntorch.load('x')", "may unpickle"),
    ("integrations/hf.py", "import torch as t\nt.load('x', weights_only=False)", "may unpickle"),
    ("codecs/delta.py", "import numpy\nnumpy.load('x', allow_pickle=True)", "may unpickle"),
]

ALLOWED = [
    ("manifest.py", "from modelstore.formats.base import Span"),
    ("ops/log.py", "def f():\n    import numpy\n    from modelstore.codecs import delta"),
    ("ops/log.py", "from modelstore import disk\ndisk.replace('a', b'')\ndisk.rename('a', 'b')"),
    (
        "ops/log.py",
        "import os\nos.open('x', os.O_RDONLY)\nos.path.exists('x')\n'a'.replace('a', 'b')",
    ),
    ("ops/log.py", "open('x')\nopen('x', 'rb')\n\ndef f(p):\n    p.open('rb')"),
    ("ops/log.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy"),
    ("integrations/hf.py", "import torch\ntorch.load('x', weights_only=True)"),
    ("cli/log.py", "import os\nimport click\nprint(os.environ['X'])"),
    ("disk.py", "import os\nos.fsync(3)"),
]


def _tree(root: Path, file: str, source: str) -> Path:
    """Make a small tree that keeps every rule, with ``source`` in place of ``file``."""
    sources = {
        "modelstore/__init__.py": "",
        "modelstore/cli/__init__.py": "from modelstore import store",
        "modelstore/codecs/delta.py": "import numpy",
        "modelstore/disk.py": "",
        "modelstore/errors.py": "",
        "modelstore/formats/base.py": "from modelstore import numeric",
        "modelstore/formats/gguf.py": "from modelstore.formats.base import Span",
        "modelstore/numeric.py": "",
        "modelstore/ops/gc.py": "from modelstore.ops import log",
        "modelstore/ops/log.py": "from modelstore import store",
        "modelstore/ops/closure.py": "",
        "modelstore/store.py": "from modelstore import errors",
        "modelstore/training/run.py": "def f():\n    import torch",
        "tuning/model_manager.py": "from modelstore.cli import main",
        f"modelstore/{file}": source,
    }
    for name, text in sources.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def test_the_tree_keeps_the_rules() -> None:
    """No module of mstore breaks a rule of its architecture."""
    assert architecture.violations(ROOT) == []


@pytest.mark.parametrize(("file", "source", "message"), PLANTED)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, source: str, message: str) -> None:
    """The checker reports each kind of violation, so its silence means something."""
    found = architecture.violations(_tree(tmp_path, file, source))
    assert any(any(part in line for part in message.split("|")) for line in found), found


@pytest.mark.parametrize(("file", "source"), ALLOWED)
def test_what_is_allowed_is_not_reported(tmp_path: Path, file: str, source: str) -> None:
    """The checker is silent on code that keeps the rules."""
    assert architecture.violations(_tree(tmp_path, file, source)) == []


def test_every_library_has_a_home_that_exists() -> None:
    """The tables name only packages that have a place among the layers."""
    entries = {entry for layer in architecture.LAYERS for entry in layer}
    homes = {home for packages in architecture.HOMES.values() for home in packages}
    assert homes <= entries


def _loaded_by(*arguments: str) -> set[str]:
    """Run mstore in a process of its own and return the top-level packages that it loaded."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "modelstore", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_help_loads_nothing_slow() -> None:
    """`mstore --help` loads no library that would make a prompt wait."""
    loaded = _loaded_by("--help")
    assert "click" in loaded
    assert not loaded & (architecture.SLOW | architecture.TRAINING_STACK)


@pytest.mark.parametrize("verb", ["log", "list"])
def test_looking_at_history_loads_nothing_slow(tmp_path: Path, verb: str) -> None:
    """`mstore log` and `mstore list` read JSON only, and load nothing to compute with."""
    store = str(tmp_path / "tuned_models")
    _loaded_by("init", store)
    loaded = _loaded_by("-C", store, verb)
    assert not loaded & (architecture.SLOW | architecture.TRAINING_STACK)

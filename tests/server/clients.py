"""Clients of the Hugging Face Hub as programs of their own: the one that is installed, and others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.program import environment
from tests.server.live import Live

HERE = Path(__file__).resolve().parent

RELEASES = ("0.36.2", "1.33.0")
"""Of huggingface_hub: the last of the two major lines before the one that is installed."""


def settings_of(live: Live, home: Path, token: str = "") -> dict[str, str]:
    """Return the variables that point a client at a server."""
    settings = {"HF_ENDPOINT": live.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    others = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    known = {"HF_TOKEN": token} if token else {}
    return {**others, **settings, **known, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def run(command: list[str], settings: Mapping[str, str]) -> str:
    """Run a program, which must succeed, and return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, env=dict(settings), check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def python_with(release: str, directory: Path) -> str:
    """Return a Python that has one release of huggingface_hub, installed in ``directory``."""
    python = directory / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", f"huggingface_hub=={release}", "hf_xet"]
    if subprocess.run(pip, capture_output=True, check=False).returncode:
        pytest.skip(f"needs huggingface_hub {release}, which pip cannot get")
    return str(python)

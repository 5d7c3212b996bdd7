"""What all tests share: how hypothesis searches, what a skip means, and a clean environment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# Read by huggingface_hub when it is imported: no test asks a network for anything.
os.environ["HF_HUB_OFFLINE"] = "1"
# As mstore's commands have it: threads of BLAS spin, and must not be alive at a fork.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

settings.register_profile(
    "fast",
    derandomize=True,  # the same examples everywhere, so that a red test is red for everyone
    database=None,
    deadline=None,  # the first call of a kernel compiles it
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],  # machines of CI are shared
)
settings.register_profile(
    "deep", parent=settings.get_profile("fast"), derandomize=False, max_examples=1000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

IN_CI = os.environ.get("CI") == "true"
MISSING_TOOL = ("needs ", "could not import ")
"""How the reason of a skip begins where something is not installed.

In CI such a skip is a failure, or a broken installation would look like a green run.
Other skips (the platform, a user who is root) and the GPU stay skips.
"""


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own settings out of the tests."""
    for name in [name for name in os.environ if name.startswith("MSTORE_")]:
        monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose markers name what is not there."""
    for marker in item.iter_markers("needs"):
        missing = [program for program in marker.args if shutil.which(program) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)} on PATH")
    if item.get_closest_marker("gpu") is not None:
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("no GPU")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test for a missing tool into a failure in CI."""
    report = yield
    return _strict(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that is skipped."""
    report = yield
    return _strict(report)


def _strict(
    report: pytest.TestReport | pytest.CollectReport,
) -> pytest.TestReport | pytest.CollectReport:
    if IN_CI and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason.startswith(MISSING_TOOL):
            report.outcome = "failed"
            report.longrepr = f"skipped, which CI does not accept: {reason}"
    return report

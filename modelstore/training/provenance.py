"""Where a version comes from: all that is needed to make it again, and what it took.

It goes into the manifest, so that it is as lasting as the weights and part of the version's id.
`modelstore.training.replay` reads it back.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from modelstore.ops.commit import CommitOptions
from modelstore.training.curve import curve_of
from modelstore.training.data import Data
from modelstore.training.options import TrainOptions, TrainResult
from modelstore.training.plan import Plan

EVALUATION = "evaluation"
"""What the record of a data file says under "use" where nothing was learned from it."""

BASE_DIGEST = "base_blake3"
"""In the environment: what a base that is no version is known by, as `digest_of_base` says."""

_PATIENCE = 10.0  # seconds for git, which may lie on a slow disk


def with_provenance(
    options: CommitOptions,
    plan: Plan,
    result: TrainResult,
    *,
    adapter: Path | None = None,
    base_digest: str = "",
    directory: Path = Path(),
) -> CommitOptions:
    """Return what the user says of the version, completed by what the run knows.

    Args:
        options: the user's: message ("" for one that names base and data), note, activate, ...
        plan: what was run.
        result: what it measured. Its parameters go before the plan's options, as "auto" is settled
            there; its curve is thinned here; ``metrics["eval_loss_before"]`` becomes step 0 of it.
        adapter: the directory of the adapter within the output, None where there is none.
        base_digest: of a base that is no version; ``plan_value(plan)["base_digest"]``.
        directory: where the user works; its git commit is recorded.
    """
    before = result.metrics.get("eval_loss_before")
    environment = {
        **result.environment,
        "platform": f"{platform.system()} {platform.machine()}",
        **({BASE_DIGEST: base_digest} if base_digest else {}),
        **git_state(directory),
    }
    return replace(
        options,
        message=options.message or _message(plan),
        parents=(str(plan.version),) if plan.version else (),
        base_model="" if plan.version else plan.base,
        parameters={**_parameters(plan), **result.parameters},
        metrics={**result.metrics, **_counts(plan.data)},
        environment=environment,
        data=tuple(_files(plan.data)),
        curve=curve_of(result.curve, before),
        adapter=adapter,
        op="train",
    )


def _message(plan: Plan) -> str:
    names = ", ".join(file.name for file in plan.data.files)
    return f"fine-tune of {plan.base} on {names}"


def _parameters(plan: Plan) -> dict[str, object]:
    """Return the options of a run, and how its rows were divided, without what had no part in it."""
    values = {**asdict(plan.options), "learning_rate": plan.options.rate}
    if not plan.options.adapts:
        del values["lora_rank"], values["lora_alpha"]
    if plan.split:
        values["eval_split"] = plan.split
    if plan.preset:
        values["preset"] = plan.preset
    return {name: value for name, value in values.items() if value is not None}


def options_from(parameters: Mapping[str, object]) -> TrainOptions:
    """Return the options that a version was trained with, of its parameters as numbers and texts.

    Raises:
        UsageError: a parameter is out of its range.
    """
    known = {name: parameters[name] for name in TrainOptions.__slots__ if name in parameters}
    if "activation_checkpointing" in known:
        known["activation_checkpointing"] = known["activation_checkpointing"] in (True, "true")
    return TrainOptions(**known)  # type: ignore[arg-type]


def _counts(data: Data) -> dict[str, int]:
    counts = {
        "evaluation_rows": len(data.evaluation),
        "duplicate_rows": data.duplicates,
        "rows_shared_with_evaluation": data.shared,
    }
    return {name: count for name, count in counts.items() if count}


def _files(data: Data) -> Iterator[dict[str, object]]:
    yield from (asdict(file) for file in data.files)
    for file in data.evaluation_files:
        yield {**asdict(file), "use": EVALUATION}


def git_state(directory: Path) -> dict[str, str]:
    """Return the commit that ``directory`` is at, and whether files that git knows differ from it.

    Returns:
        ``git_commit`` and ``git_dirty`` ("true" or "false"); nothing where there is no git, no
        repository, or no answer within seconds.
    """
    commit = _git(directory, "rev-parse", "--verify", "HEAD")
    if not commit:
        return {}
    changes = _git(directory, "status", "--porcelain", "--untracked-files=no")
    known = {} if changes is None else {"git_dirty": "true" if changes else "false"}
    return {"git_commit": commit, **known}


def _git(directory: Path, *words: str) -> str | None:
    """Return what git answers, None where it does not; it writes nothing and runs no hook."""
    program = shutil.which("git")
    if program is None:
        return None
    settings = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(directory))
    try:
        done = subprocess.run(
            [program, *settings, *words], capture_output=True, timeout=_PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()

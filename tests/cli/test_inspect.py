"""``mstore diff``, ``verify`` and ``du`` as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelstore import cli, disk
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import resolve
from modelstore.store import Store, create
from tests.models import write_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with two versions of a model."""
    store = create(tmp_path / "tuned_models")
    model = ModelName("llama_1b")
    first = write_model(tmp_path / "a", files={"modeling.py": "a = 1"})
    commit(store, first, model, CommitOptions(metrics={"loss": 2.5}))
    second = write_model(tmp_path / "b", step=1e-3, files={"modeling.py": "a = 2"})
    commit(store, second, model, CommitOptions(metrics={"loss": 2.25}))
    return store


@pytest.fixture
def run(store: Store, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the store; returns its exit code and what it printed."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(["-C", str(store.root), *words])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def data_of(result: tuple[int, str, str], schema: str) -> Any:
    """Return the data of an envelope."""
    value = json.loads(result[1])
    assert value["schema"] == f"mstore/{schema}/1"
    return value["data"]


def test_diff_says_what_changed_and_what_it_cost(run: Run) -> None:
    """Files, the most changed tensors, metrics and a warning about code, on one screen."""
    code, out, err = run("diff", "v1.0", "v1.1", "--top", "1")
    assert code == 0
    assert out.startswith("llama_1b@v1.0 -> llama_1b@v1.1, which added ")
    assert "files: 2 modified, 2 equal" in out
    assert "tensors: 3 modified, 0 equal" in out
    assert out.count(".weight") == 1
    assert "2 more" in err
    assert "M  loss" in out
    assert "metrics: 1 changed" in out
    assert "modeling.py was modified: it is code" in err


def test_diff_is_with_active_unless_a_second_version_is_named(run: Run) -> None:
    """B defaults to ACTIVE of the model of A, and a bare B is one of that model too."""
    assert run("diff", "llama_1b@v1.1")[1].startswith("llama_1b@v1.1 -> llama_1b@v1.0")
    assert run("diff", "llama_1b@v1.0", "latest")[1].startswith("llama_1b@v1.0 -> llama_1b@v1.1")


def test_diff_backwards_and_with_itself_says_so(run: Run) -> None:
    """What B cost is of interest only if B came later; a version does not differ from itself."""
    assert run("diff", "v1.1")[1].startswith("llama_1b@v1.1 -> llama_1b@v1.0, which is older\n")
    code, out, err = run("diff", "v1.0")
    assert (code, out) == (0, "llama_1b@v1.0 is the same version on both sides: nothing differs\n")
    assert err == ""
    assert "mstore diff llama_1b@v1.1~1 llama_1b@v1.1" in run("diff", "v1.1", "v1.1")[2]


def test_diff_lists_only_the_metrics_that_differ(run: Run, store: Store, tmp_path: Path) -> None:
    """Marked as new, gone or changed; --all lists the equal ones too."""
    metrics = {"loss": 2.25, "bleu": 0.5}
    third = write_model(tmp_path / "c", step=2e-3)
    commit(store, third, ModelName("llama_1b"), CommitOptions(metrics=metrics))
    forth = run("diff", "v1.1", "v1.2", "--metrics")[1]
    assert ("  A  bleu" in forth, "loss" in forth) == (True, False)
    assert "  D  bleu" in run("diff", "v1.2", "v1.1", "--metrics")[1]
    assert "     loss" in run("diff", "v1.1", "v1.2", "--metrics", "--all")[1]


def test_diff_shows_only_the_sections_that_were_asked_for(run: Run) -> None:
    """With a section named the others are left out, in JSON too."""
    out = run("diff", "v1.0", "v1.1", "--metrics")[1]
    assert "loss" in out
    assert "files:" not in out
    assert ".weight" in run("diff", "v1.0", "v1.1", "--tensors", "--all")[1]
    assert "files" not in data_of(run("diff", "v1.0", "v1.1", "--params", "--json"), "diff")


def test_diff_exits_with_1_if_asked_to_and_something_differs(run: Run) -> None:
    """--exit-code makes the answer a status."""
    assert run("diff", "v1.0", "v1.1")[0] == 0
    assert run("diff", "v1.0", "v1.1", "--exit-code", "-q")[:2] == (1, "")
    assert run("diff", "v1.0", "v1.0", "--exit-code")[0] == 0


def test_diff_in_json_has_every_tensor(run: Run) -> None:
    """The JSON holds all figures as numbers, the most changed tensor first."""
    data = data_of(run("diff", "v1.0", "v1.1", "--json"), "diff")
    figures = [change["relative_l2"] for change in data["tensors"]["changes"]]
    assert figures == sorted(figures, reverse=True)
    assert len(figures) == 3
    assert data["same_content"] is False
    assert {"name": "loss", "before": 2.5, "after": 2.25} in data["metrics"]


def test_verify_of_a_sound_store_exits_with_0(run: Run) -> None:
    """Without a ref it checks ACTIVE of every model, with refs those."""
    code, out, _ = run("verify")
    assert (code, out.split(" (")[0]) == (0, "llama_1b@v1.0: sound")
    data = data_of(run("verify", "v1.0", "v1.1", "--json"), "verify")
    assert [(one["ref"], one["sound"]) for one in data] == [
        ("llama_1b@v1.0", True),
        ("llama_1b@v1.1", True),
    ]


def test_verify_of_a_damaged_store_exits_with_1_and_names_the_tensor(
    run: Run, store: Store
) -> None:
    """The line tells the file, what is wrong, and the tensor that is lost."""
    resolved = resolve(store, "v1.0")
    manifest = store.manifest(resolved.model, resolved.entry)
    blob = next(span.blob for _, span, _ in manifest.tensors())
    disk.remove(store.blobs.path(blob))
    code, out, err = run("verify")
    assert code == 1
    assert "llama_1b@v1.0: 1 problem" in out
    assert "model.safetensors: blob" in out
    assert "(model.embed_tokens.weight)" in out
    assert "the store is damaged" in err
    (one,) = data_of(run("verify", "--json"), "verify")
    assert one["problems"][0]["tensors"] == ["model.embed_tokens.weight"]


def test_verify_of_a_changed_checkout_says_how_to_write_it_again(run: Run, store: Store) -> None:
    """The store is sound, so the hint is a checkout."""
    assert run("checkout", "v1.0")[0] == 0
    disk.replace(store.root / "llama_1b" / "v1.0" / "config.json", b"{}")
    code, out, err = run("verify")
    assert code == 1
    assert "config.json: it is not what was committed" in out
    assert "mstore checkout llama_1b@v1.0" in err


def test_du_lists_versions_and_totals(run: Run) -> None:
    """A row per version, and the store below; a model or a version chooses the rows."""
    code, out, _ = run("du")
    assert code == 0
    assert out.splitlines()[0].split() == [
        "version",
        "logical",
        "stored",
        "unique",
        "shared",
        "hydrated",
    ]
    assert "reclaimable   0 B" in out
    assert [row["ref"] for row in data_of(run("du", "v1.1", "--json"), "du")["versions"]] == [
        "llama_1b@v1.1"
    ]
    data = data_of(run("du", "llama_1b", "--json"), "du")
    assert len(data["versions"]) == 2
    assert all(row["unique"] + row["shared"] == row["stored"] for row in data["versions"])
    assert run("du", "nothing")[0] == 4

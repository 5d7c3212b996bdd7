"""How a run is set: the last that says something wins, and every setting knows who that was."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import NotFoundError, UsageError
from modelstore.names import ModelName
from modelstore.ops.init import init
from modelstore.state import Change
from modelstore.store import Store, create
from modelstore.training import toml
from modelstore.training.options import TrainOptions
from modelstore.training.settings import File, parse_sets, read_file, settle

LAPTOP = ModelName("llama_1b")
DESKTOP = ModelName("llama_8b")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with the two lines."""
    return init(tmp_path / "tuned_models").store


def test_the_last_wins(store: Store) -> None:
    """Preset, line, file, --set and flag each take the place of those before."""
    file = File({"epochs": 3, "seed": 3, "max_length": 3, "max_steps": 3})
    sets = ["seed=4", "max_length=4", "max_steps=4"]
    flags = {"max_length": 5, "max_steps": 5, "learning_rate": None}
    settled = settle(store, LAPTOP, flags, file=file, sets=sets)
    chosen = settled.options
    assert (chosen.epochs, chosen.seed, chosen.max_length, chosen.max_steps) == (3, 4, 5, 5)
    assert chosen.batch_size == 1
    assert settled.preset == "laptop"
    wanted = {"epochs": "file", "seed": "--set", "max_length": "flag", "batch_size": "line"}
    assert wanted.items() <= settled.sources.items()
    assert settled.sources["method"] == "preset"
    assert "learning_rate" not in settled.sources


def test_a_line_carries_its_own(store: Store) -> None:
    """Each line that init makes is trained by the preset that it names."""
    desktop = settle(store, DESKTOP, {"epochs": None}).options
    assert (desktop.device, desktop.batch_size, desktop.epochs) == ("cuda", 8, 3)
    assert desktop.activation_checkpointing is True
    assert settle(store, DESKTOP, {"epochs": 1}).options.epochs == 1


def test_a_named_preset_takes_the_place_of_the_line(store: Store) -> None:
    """Who names a preset, in a flag or in a file, gets that and not the line's defaults."""
    by_flag = settle(store, LAPTOP, {}, preset_name="gpu")
    assert (by_flag.options.device, by_flag.preset) == ("cuda", "gpu")
    by_file = settle(store, LAPTOP, {}, file=File(preset="gpu"))
    assert by_file.options == by_flag.options
    assert settle(store, LAPTOP, {}, preset_name="laptop", file=File(preset="gpu")).preset == (
        "laptop"
    )


def test_a_line_from_before_there_were_presets(tmp_path: Path) -> None:
    """A line that names a device and no preset is trained by the preset of that device."""
    store = create(tmp_path / "tuned_models")
    old = {"defaults": {"device": "cuda", "batch_size": 4, "epochs": 3, "colour": "red"}}
    store.change(DESKTOP, lambda _: Change("init", values=old))
    settled = settle(store, DESKTOP, {})
    assert settled.preset == "gpu"
    assert (settled.options.batch_size, settled.options.max_length) == (4, 2048)


def test_wrong_settings_say_where_they_are(store: Store) -> None:
    """An error names the setting, and the hint where it was said."""
    with pytest.raises(UsageError, match="epochs is 0") as caught:
        settle(store, LAPTOP, {}, file=File({"epochs": 0}))
    assert "the file" in caught.value.hint
    with pytest.raises(UsageError, match="no setting 'epoch'") as misspelt:
        settle(store, LAPTOP, {}, sets=["epoch=3"])
    assert misspelt.value.hint == "did you mean epochs?"
    with pytest.raises(UsageError, match="must be a whole number"):
        settle(store, LAPTOP, {}, sets=["epochs=many"])
    with pytest.raises(UsageError, match="there is no '='"):
        settle(store, LAPTOP, {}, sets=["epochs"])
    store.change(LAPTOP, lambda _: Change("edit", values={"defaults": {"epochs": "3"}}))
    with pytest.raises(UsageError, match="what llama_1b is set up with: epochs is '3'"):
        settle(store, LAPTOP, {})


def test_words_need_no_quotes() -> None:
    """After --set a value is TOML, or else the text that it is; names may be written as flags."""
    texts = ["method=last-4", 'device="cpu"', "learning-rate=1e-3", "warmup=0"]
    assert parse_sets(texts) == {
        "method": "last-4",
        "device": "cpu",
        "learning_rate": 1e-3,
        "warmup": 0.0,
    }
    assert parse_sets(["activation_checkpointing=true"]) == {"activation_checkpointing": True}


def test_a_file(tmp_path: Path) -> None:
    """A file says what flags say; its paths begin where it lies."""
    path = tmp_path / "train.toml"
    path.write_text(
        'preset = "gpu"\nbase = "qwen3:8b"\ndata = ["a.jsonl", "/b.csv"]\neval = "c.txt"\n'
        'batch-size = 2\nmethod = "full"\nlearning_rate = 1e-5\n'
    )
    file = read_file(path)
    assert file.values == {"batch_size": 2, "method": "full", "learning_rate": 1e-5}
    assert (file.preset, file.base, file.source) == ("gpu", "qwen3:8b", "")
    assert file.data == (tmp_path / "a.jsonl", Path("/b.csv"))
    assert (file.evaluation, file.split) == ((tmp_path / "c.txt",), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "is not TOML"),
        ("batch_sise = 3", "no setting 'batch_sise'"),
        ("epochs = true", "epochs is True"),
        ("data = 3", "a path or a list"),
        ("base = 3", "must be a text"),
        ('eval_split = "x"', "must be a number"),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, message: str) -> None:
    """What is wrong in a file is named."""
    path = tmp_path / "train.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_file(path)
    assert "train.toml" in caught.value.message


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there, or not text, is an error."""
    with pytest.raises(NotFoundError, match="there is no file"):
        read_file(tmp_path / "train.toml")
    (tmp_path / "train.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_file(tmp_path / "train.toml")


@given(st.integers(-(2**60), 2**60) | st.booleans() | st.floats(allow_nan=False))
def test_plain_values_are_read_back(value: bool | int | float) -> None:
    """A number or a truth value, as TOML writes it, is what was written."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    assert toml.value(text) == value


@given(st.text())
def test_any_text_is_a_value(text: str) -> None:
    """Nothing after --set is an error of its own."""
    toml.value(text)


@pytest.mark.parametrize(
    ("method", "layers", "rate"),
    [("lora", None, 2e-4), ("qlora", None, 2e-4), ("full", None, 2e-5), ("last-4", 4, 5e-5)],
)
def test_methods(method: str, layers: int | None, rate: float) -> None:
    """Each method has its own learning rate; the last layers are counted in the name."""
    options = TrainOptions(method=method)
    assert (options.last_layers, options.rate) == (layers, rate)


@pytest.mark.parametrize("method", ["last-0", "last-N", "last-", "adapters", "LORA"])
def test_no_methods(method: str) -> None:
    """Anything else is no method, and the error says what is."""
    with pytest.raises(UsageError, match="lora, qlora, full, or last-4"):
        TrainOptions(method=method)


def test_a_base_in_a_file_begins_where_the_file_lies(tmp_path: Path) -> None:
    """As its data does; what is not there is a name of another kind."""
    (tmp_path / "model").mkdir()
    file = tmp_path / "settings.toml"
    file.write_text('base = "model"\n')
    assert read_file(file).base == str(tmp_path / "model")
    file.write_text('base = "Qwen/Qwen3-8B"\n')
    assert read_file(file).base == "Qwen/Qwen3-8B"

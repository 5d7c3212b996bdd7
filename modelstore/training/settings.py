"""How a run is set: preset, then the line's own defaults, a file, ``--set`` and flags; the last wins.

Each setting remembers where it came from, so that a plan can say why it is what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from modelstore.errors import UsageError
from modelstore.names import ModelName
from modelstore.store import Store
from modelstore.training import toml
from modelstore.training.options import TrainOptions, Value
from modelstore.training.presets import AUTO, preset

PRESET, LINE, FILE, SET, FLAG = "preset", "line", "file", "--set", "flag"
"""Where a setting can come from."""

_KINDS: Mapping[str, type] = {field.name: type(field.default) for field in fields(TrainOptions)} | {
    "learning_rate": float,
    "activation_checkpointing": bool,
}

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True, slots=True)
class Settled:
    """How a run is set.

    Attributes:
        options: every setting.
        preset: the name of the preset that they begin with.
        sources: by setting where it came from; those that are not in it are our own defaults.
    """

    options: TrainOptions
    preset: str
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class File:
    """What a file of settings says; "", () and None where it says nothing.

    Attributes:
        values: settings.
        preset, base, source: as the flags --preset, --base and --from.
        data, evaluation: paths as the flags --data and --eval; relative ones begin at the file,
            as that of a base does that is there.
        split: as the flag --eval-split.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    preset: str = ""
    base: str = ""
    source: str = ""
    data: tuple[Path, ...] = ()
    evaluation: tuple[Path, ...] = ()
    split: float | None = None


def settle(
    store: Store,
    model: ModelName,
    flags: Mapping[str, Value | None],
    *,
    preset_name: str = "",
    file: File | None = None,
    sets: Sequence[str] = (),
) -> Settled:
    """Return how a run of ``model`` is set.

    Args:
        flags: settings; None for those that were not said.
        preset_name: the preset, or "" for that of the file, else of the line, else the one that
            suits the machine. One that is named here or in the file takes the line's place.
        sets: texts as "epochs=3".

    Raises:
        UsageError: a setting is unknown, of the wrong kind or out of its range.
        NotFoundError: there is no such preset.
    """
    file = file or File()
    line = _of_the_line(store, model)
    said = preset_name or file.preset
    if said:
        line = {}
    chosen = preset(said or _preset_of(line))
    line = {name: value for name, value in line.items() if name in _KINDS}
    layers: list[tuple[str, str, Mapping[str, Value]]] = [
        (PRESET, f"the preset {chosen.name}", chosen.values),
        (LINE, f"what {model} is set up with", line),
        (FILE, "the file of settings", file.values),
        (SET, "--set", parse_sets(sets)),
        (FLAG, "", {name: value for name, value in flags.items() if value is not None}),
    ]
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, where, layer in layers:
        _check_range(layer, where)
        values |= layer
        sources |= dict.fromkeys(layer, source)
    return Settled(TrainOptions(**values), chosen.name, sources)


def _of_the_line(store: Store, model: ModelName) -> dict[str, Value]:
    registry = store.registry(model)
    defaults = registry.state().document.get("defaults", {}) if registry.exists() else {}
    if not isinstance(defaults, dict):
        return {}
    return {
        name: check(name, value, f"what {model} is set up with") if name in _KINDS else value
        for name, value in defaults.items()
    }


def _preset_of(line: Mapping[str, Value]) -> str:
    """Return the line's preset; lines were made before presets were, and name a device only."""
    by_device = {"cpu": "laptop", "cuda": "gpu"}
    return str(line.get("preset") or by_device.get(str(line.get("device")), AUTO))


def _check_range(values: Mapping[str, Any], where: str) -> None:
    try:
        TrainOptions(**values)
    except UsageError as error:
        hint = f"this is what {where} says" if where else error.hint
        raise UsageError(error.message, hint) from error


def check(name: str, value: object, where: str) -> Value:
    """Return ``value`` as the setting ``name`` wants it.

    Raises:
        UsageError: there is no such setting, or the value is of another kind.
    """
    kind = _KINDS.get(name)
    if kind is None:
        close = get_close_matches(name, _KINDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"settings are {', '.join(_KINDS)}"
        raise UsageError(f"{where}: there is no setting {name!r}", hint)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise UsageError(f"{where}: {name} is {value!r}, and must be {_WORDS[kind]}")
    return value  # type: ignore[return-value]


def parse_sets(texts: Sequence[str]) -> dict[str, Value]:
    """Return the settings in texts as "epochs=3"; values are TOML, or bare words.

    Raises:
        UsageError: there is no "=", or the setting is unknown or of the wrong kind.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: there is no '='", "write it as --set epochs=3")
        name = _name(name.strip())
        found[name] = check(name, toml.value(value.strip()), "--set")
    return found


def _name(key: str) -> str:
    """Return the name of a setting, which may be written as its flag is."""
    return key.replace("-", "_")


def read_file(path: Path) -> File:
    """Return what the file of settings at ``path`` says.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it is not TOML, or says something unknown or of the wrong kind.
    """
    table = {_name(key): value for key, value in toml.read(path).items()}
    where = f"'{path}'"
    words = {name: _word(table, name, where) for name in ("preset", "base", "from")}
    data, evaluation = (_paths(table, name, path) for name in ("data", "eval"))
    split = table.pop("eval_split", None)
    if split is not None and type(split) not in {int, float}:
        raise UsageError(f"{where}: eval_split is {split!r}, and must be a number")
    values = {name: check(name, value, where) for name, value in table.items()}
    base = words["base"]
    if base and (path.parent / base).exists():
        base = str(path.parent / base)
    return File(values, words["preset"], base, words["from"], data, evaluation, split)


def _word(table: dict[str, Any], name: str, where: str) -> str:
    value = table.pop(name, "")
    if not isinstance(value, str):
        raise UsageError(f"{where}: {name} is {value!r}, and must be a text")
    return value


def _paths(table: dict[str, Any], name: str, file: Path) -> tuple[Path, ...]:
    value = table.pop(name, [])
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise UsageError(f"'{file}': {name} is {value!r}, and must be a path or a list of paths")
    return tuple(file.parent / one for one in names)

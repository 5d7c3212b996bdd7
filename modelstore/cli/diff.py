"""``mstore diff``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from modelstore.cli import common, complete, output, pictures
from modelstore.ops.change_map import change_chart
from modelstore.ops.diff import Difference, FileChange, Pair, TensorChange
from modelstore.ops.diff import diff as compare
from modelstore.ops.resolve import Context, resolve

_SECTIONS = ("files", "tensors", "params", "metrics")
_MARKS = {"added": "+", "removed": "-"}


@click.command()
@click.argument("before", metavar="A", shell_complete=complete.refs)
@click.argument("after", metavar="[B]", required=False, shell_complete=complete.refs)
@click.option("--files", is_flag=True, help="Only files.")
@click.option("--tensors", is_flag=True, help="Only tensors.")
@click.option("--params", is_flag=True, help="Only training parameters.")
@click.option("--metrics", is_flag=True, help="Only metrics.")
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="N",
    help="Show the N most changed tensors.",
)
@click.option(
    "--all", "all_", is_flag=True, help="Show every changed tensor, and parameters that are equal."
)
@click.option("--exit-code", is_flag=True, help="Exit with 1 if a file differs.")
@pictures.option("where tensors differ, layer by module,")
@common.store_options
@common.silent_option("Print nothing; for --exit-code.")
@common.json_option
@click.pass_context
def diff(  # noqa: PLR0913  (one argument an option)
    ctx: click.Context,
    /,
    before: str,
    after: str | None,
    top: int,
    all_: bool,
    exit_code: bool,
    svg: Path | None,
    **sections: bool,
) -> int:
    """Compare version A with version B (default: ACTIVE of the same model).

    Tensors are listed with the most changed first: relative is the length of the change over the
    length of the tensor (L2 norms), max the largest change of one value.
    Marks: M modified, + or A added, - or D removed.
    """
    chosen = common.settings(ctx)
    pictures.check(svg, json=chosen.json)
    store = chosen.open()
    wanted = [name for name in _SECTIONS if sections[name]] or list(_SECTIONS)
    old = resolve(store, before, chosen.context())
    new = resolve(store, after or "ACTIVE", Context(model=old.model))
    with output.progress(chosen) as progress:
        tensors = "tensors" in wanted or svg is not None
        found = compare(store, old, new, tensors=tensors, progress=progress)
    if chosen.json:
        output.emit("diff", _as_json(found, wanted))
    elif not chosen.quiet and str(svg) != "-":
        _show(found, wanted, top, all_=all_)
    if svg is not None:
        pictures.write(change_chart(found), svg)
    return int(exit_code and not found.same_content)


def _show(found: Difference, wanted: Sequence[str], top: int, *, all_: bool) -> None:
    if found.before == found.after:
        output.say(f"{found.before} is the same version on both sides: nothing differs")
        if found.before.entry.parents:
            output.hint(f"compare with its parent: mstore diff {found.before}~1 {found.before}")
        return
    output.say(f"{found.before} -> {found.after}{_cost(found)}")
    if "files" in wanted:
        _show_files(found)
    if "tensors" in wanted:
        _show_tensors(found, None if all_ else top)
    if "params" in wanted:
        _show_pairs("parameters", found.parameters, all_=all_)
    if "metrics" in wanted:
        _show_pairs("metrics", found.metrics, all_=all_)
    for warning in found.warnings:
        output.warn(warning)


def _cost(found: Difference) -> str:
    """Return what B added to the store, which is only of interest if it came after A."""
    if found.before.model == found.after.model and found.after.entry.seq < found.before.entry.seq:
        return ", which is older"
    return f", which added {output.size(found.stored)}" if found.stored is not None else ""


def _show_files(found: Difference) -> None:
    output.say(f"files: {_summary([f.change for f in found.files], found.same_files)}")
    rows = [_file_row(change) for change in found.files]
    if rows:
        output.table(rows, right=(2, 4))


def _file_row(change: FileChange) -> tuple[str, ...]:
    mark = "  " + _MARKS.get(change.change, "M")
    if change.before is None or change.after is None:
        only = change.before if change.after is None else change.after
        return mark, change.path, output.size(only), "", ""
    return mark, change.path, output.size(change.before), "->", output.size(change.after)


def _show_tensors(found: Difference, top: int | None) -> None:
    kinds = [change.change for change in found.tensors]
    if not kinds and not found.same_tensors:
        return
    output.say(f"tensors: {_summary(kinds, found.same_tensors)}")
    shown = found.tensors[:top]
    if shown:
        head = ("   ", "", "relative", "max", "changed", "")
        output.table([head, *map(_tensor_row, shown)], right=(2, 3, 4))
    if len(shown) < len(found.tensors):
        output.hint(f"  and {len(found.tensors) - len(shown)} more; see them with --all")


def _tensor_row(change: TensorChange) -> tuple[str, ...]:
    mark = "  " + _MARKS.get(change.change, "M")
    apart = change.distance
    if apart is None:
        sides = [_kind(side) for side in (change.before, change.after) if side is not None]
        return mark, change.name, "", "", "", " -> ".join(sides)
    share = f"{100 * apart.changed / max(1, apart.values):.3g} %"
    remarks = [f"as {change.tied_to}"] if change.tied_to else []
    if any(apart.not_finite):
        remarks.append(f"NaN or infinite: {apart.not_finite[0]} -> {apart.not_finite[1]}")
    elif apart.max_abs is None:
        remarks.append("packed: share of bytes")
    elif apart.relative_l2 is None:
        remarks.append("was all zero")
    return (
        mark,
        change.name,
        output.number(apart.relative_l2),
        output.number(apart.max_abs),
        share,
        "; ".join(remarks),
    )


def _kind(side: tuple[str, tuple[int, ...]]) -> str:
    dtype, shape = side
    return f"{dtype} {'x'.join(map(str, shape)) or 'scalar'}"


def _show_pairs(title: str, pairs: Sequence[Pair], *, all_: bool) -> None:
    equal = sum(pair.equal for pair in pairs)
    shown = [pair for pair in pairs if all_ or not pair.equal]
    if not pairs:
        return
    output.say(f"{title}: {len(pairs) - equal} changed, {equal} equal")
    if shown:
        output.table([_pair_row(pair) for pair in shown], right=(2,))


def _pair_row(pair: Pair) -> tuple[str, ...]:
    if pair.equal:
        return "   ", pair.name, output.number(pair.before), "", ""
    if pair.before is None:
        return "  A", pair.name, "", "", output.number(pair.after)
    if pair.after is None:
        return "  D", pair.name, output.number(pair.before), "", ""
    return "  M", pair.name, output.number(pair.before), "->", output.number(pair.after)


def _summary(changes: Sequence[str], same: int) -> str:
    counts = {name: changes.count(name) for name in dict.fromkeys(changes)}
    named = {"dtype": "of another dtype", "shape": "of another shape"}
    parts = [f"{count} {named.get(name, name)}" for name, count in counts.items()]
    return ", ".join([*parts, f"{same} equal"])


# --- JSON


def _as_json(found: Difference, wanted: Sequence[str]) -> dict[str, object]:
    sections = {
        "files": {"same": found.same_files, "changes": [_file_json(f) for f in found.files]},
        "tensors": {
            "same": found.same_tensors,
            "changes": [_tensor_json(change) for change in found.tensors],
        },
        "params": [_pair_json(pair) for pair in found.parameters],
        "metrics": [_pair_json(pair) for pair in found.metrics],
    }
    return {
        "before": str(found.before),
        "after": str(found.after),
        "same_content": found.same_content,
        "stored": found.stored,
        "warnings": list(found.warnings),
        **{name: sections[name] for name in wanted},
    }


def _file_json(change: FileChange) -> dict[str, object]:
    return {
        "path": change.path,
        "change": change.change,
        "before": change.before,
        "after": change.after,
    }


def _pair_json(pair: Pair) -> dict[str, object]:
    return {"name": pair.name, "before": pair.before, "after": pair.after}


def _tensor_json(change: TensorChange) -> dict[str, object]:
    value: dict[str, object] = {"name": change.name, "change": change.change}
    for side, kind in (("before", change.before), ("after", change.after)):
        value[side] = None if kind is None else {"dtype": kind[0], "shape": list(kind[1])}
    apart = change.distance
    if apart is not None:
        value |= {
            "values": apart.values,
            "changed": apart.changed,
            "relative_l2": apart.relative_l2,
            "max_abs": apart.max_abs,
            "not_finite": list(apart.not_finite),
            "tied_to": change.tied_to or None,
        }
    return value

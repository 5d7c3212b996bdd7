"""What mstore is tortured with: small stores, and every command that changes one.

A scene is played in one directory: `prepare` fills it, and then come the steps, one command each.
Each step may be repeated, as somebody would whose machine died in the middle of it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelstore.codecs import ids
from modelstore.hashing import Digest
from modelstore.names import ModelName
from modelstore.ops.adopt import adopt
from modelstore.ops.checkout import checkout, release
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.gc import EVERYTHING, gc, plan_gc
from modelstore.ops.init import init
from modelstore.ops.mend import repair
from modelstore.ops.pointer import add_note, remove_alias, rollback, set_active, set_alias
from modelstore.ops.repack import repack
from modelstore.ops.repack_ways import Effort
from modelstore.ops.resolve import Context, resolve
from modelstore.ops.retention import Policy
from modelstore.ops.rm import plan_rm, rm
from modelstore.ops.survey import plan_adopt
from modelstore.ops.undelete import resolve_removed, undelete
from modelstore.store import Store, create
from tests import old_tool
from tests.builders import safetensors_bytes
from tests.frames import put_frame
from tests.loras import LAYERS, layers, write_adapter, write_weights
from tests.models import weights, write_model
from tests.torture.oracle import STORE

LINE = ModelName("m")
AT = "2026-01-01T00:00:00Z"
"""When everything was made, so that a repeated commit makes the same manifest."""

Step = Callable[[Path], object]


@dataclass(frozen=True)
class Scene:
    """One command, or a few in a row, and the store that they find.

    Attributes:
        again: whether a step that was cut short is simply run again.
        compact_every: changes between two whole states in refs/.
    """

    name: str
    prepare: Step
    steps: tuple[Step, ...]
    again: bool = True
    compact_every: int = 256


def store_in(world: Path) -> Store:
    """Return the store of a world."""
    return Store(world / STORE)


def trained(world: Path, number: int) -> Path:
    """Write a bf16 model that is ``number`` small steps away from the first."""
    tensors = weights(1, step=2e-5 * number, dtype="BF16")
    return write_model(
        world / f"run{number}", files={"model.safetensors": safetensors_bytes(tensors)}
    )


def empty(world: Path) -> None:
    """A store without versions, and what will be committed to it."""
    create(world / STORE)
    trained(world, 1)


def one(world: Path) -> None:
    """A store with v1.0, and what will be v1.1."""
    empty(world)
    commit_run(1)(world)
    trained(world, 2)


def two(world: Path) -> None:
    """A store with v1.0 and v1.1."""
    one(world)
    commit_run(2)(world)


def commit_run(number: int, **options: object) -> Step:
    """Commit the model that `trained` wrote under a number."""

    def step(world: Path) -> None:
        said = CommitOptions(message=f"run {number}", created_at=AT, **options)  # type: ignore[arg-type]
        commit(store_in(world), world / f"run{number}", LINE, said)

    return step


def on(ref: str, verb: Callable[..., object], **options: object) -> Step:
    """Do something to the version ``ref``."""

    def step(world: Path) -> None:
        store = store_in(world)
        verb(store, resolve(store, ref), **options)

    return step


def to_out(ref: str) -> Step:
    """Check a version out to `out`."""
    return lambda world: checkout(
        store_in(world), resolve(store_in(world), ref), output=world / "out"
    )


def _checked_out(world: Path) -> None:
    two(world)
    to_out("v1.0")(world)


def _hydrated(world: Path) -> None:
    two(world)
    on("v1.0", checkout)(world)


def _moved_active(world: Path) -> None:
    two(world)
    on("v1.1", set_active)(world)


def _aliased(world: Path) -> None:
    two(world)
    set_prod(world)


def set_prod(world: Path) -> None:
    """Let the alias prod mean v1.1."""
    set_alias(store_in(world), "prod", resolve(store_in(world), "v1.1"))


def _without_alias(world: Path) -> None:
    store = store_in(world)
    if "prod" in store.state(LINE).aliases:
        remove_alias(store, "prod", LINE)


def _rollback(world: Path) -> None:
    if store_in(world).state(LINE).active == "v1.1":
        rollback(store_in(world), LINE)


def _note(world: Path) -> None:
    store = store_in(world)
    if not resolve(store, "v1.0").entry.text("notes"):
        add_note(store, resolve(store, "v1.0"), "good")


def _use(world: Path) -> None:
    store_in(world).configure({"default_model": LINE})


def _in_place(world: Path) -> None:
    one(world)
    shutil.copytree(world / "run2", world / STORE / LINE / "v1.1")


def _commit_in_place(world: Path) -> None:
    store = store_in(world)
    commit(
        store, world / STORE / LINE / "v1.1", LINE, CommitOptions(message="by hand", created_at=AT)
    )


def _merge(world: Path) -> None:
    create(world / STORE)
    made = {LAYERS[0]: layers()[LAYERS[0]]}
    write_weights(world / "base", {name: layer.base for name, layer in made.items()})
    write_weights(world / "merged", {name: layer.merged for name, layer in made.items()})
    write_adapter(world / "adapter", made)
    commit(store_in(world), world / "base", LINE, CommitOptions(created_at=AT))


def _commit_merge(world: Path) -> None:
    commit(
        store_in(world),
        world / "merged",
        LINE,
        CommitOptions(adapter=world / "adapter", created_at=AT),
    )


def _merged(world: Path) -> None:
    _merge(world)
    commit(store_in(world), world / "merged", LINE, CommitOptions(created_at=AT))


def _unrelated(world: Path) -> None:
    store = create(world / STORE)
    for number in range(2):
        commit(store, trained(world, number), LINE, CommitOptions(parents=(), created_at=AT))
    trained(world, 5)
    manifests = [store.manifest(LINE, entry) for entry in store.state(LINE).entries()]
    for _, span, _ in [tensor for manifest in manifests for tensor in manifest.tensors()]:
        put_frame(store.blobs, store.blobs.read(span.blob), ids.PLANES)


def _old(world: Path) -> None:
    directory = world / STORE / LINE
    old_tool.version(directory, "v1.0", seed=1)
    old_tool.version(directory, "v1.1", seed=2)
    versions = {
        name: {"notes": f"of {name}", "created_at": AT} for name in ("v1.0", "v1.1", "v1.2")
    }
    old_tool.registry(directory, {"active_version": "v1.1", "versions": versions})


def _adopt(world: Path) -> None:
    adopt(world / STORE, plan_adopt(world / STORE))


def _damaged(world: Path) -> None:
    one(world)
    store = store_in(world)
    for digest in _blobs(store, "v1.0"):
        spoil(store.blobs.path(digest))


def _blobs(store: Store, ref: str) -> list[Digest]:
    found = resolve(store, ref)
    return sorted(store.manifest(found.model, found.entry).blobs())


def _edited(world: Path) -> None:
    two(world)
    path = world / STORE / LINE / "model_registry.json"
    path.write_text(path.read_text(encoding="utf-8").replace("run 1", "by hand"), encoding="utf-8")


def _cloned(world: Path) -> None:
    """What Git brings: the small files, and the registry of what is not there."""
    two(world)
    shutil.rmtree(world / STORE / ".mstore")
    trained(world, 3)


def _removed(world: Path) -> None:
    two(world)
    rm_second(world)


def _in_trash(world: Path) -> None:
    _removed(world)
    collect()(world)


def rm_second(world: Path) -> None:
    """Remove v1.1, unless it is removed already."""
    store = store_in(world)
    if store.state(LINE).removed_entry("v1.1") is None:
        rm(store, plan_rm(store, [resolve(store, "v1.1")]))


def _undelete(world: Path) -> None:
    store = store_in(world)
    if store.state(LINE).removed_entry("v1.1") is not None:
        undelete(store, resolve_removed(store, "v1.1", Context(model=LINE)))


def collect(policy: Policy = EVERYTHING, *, purge_now: bool = False) -> Step:
    """Do a gc."""

    def step(world: Path) -> None:
        store = store_in(world)
        gc(store, plan_gc(store, policy, purge_now=purge_now))

    return step


def _repairable(world: Path) -> None:
    """Damage of every kind, all of which can be mended: v1.0 is checked out."""
    _hydrated(world)
    store = store_in(world)
    for digest in _blobs(store, "v1.0"):
        spoil(store.blobs.path(digest))
    (world / STORE / LINE / "model_registry.json").write_bytes(b"{")
    spoil(store.meta / "refs" / LINE / "0000000001.json")


def _repair(world: Path) -> None:
    repair(store_in(world))


def spoil(path: Path) -> None:
    """Change the last byte of a file."""
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def _init(world: Path) -> None:
    init(world / STORE)


def _many(world: Path) -> None:
    two(world)


def _back_and_forth(number: int) -> Step:
    return on(f"v1.{number % 2}", set_active)


SCENES = (
    Scene("init", lambda world: None, (_init,)),
    Scene("init --bare", lambda world: None, (lambda world: init(world / STORE, lines=False),)),
    Scene("first commit", empty, (commit_run(1),)),
    Scene("commit", one, (commit_run(2),)),
    Scene("commit, made active", one, (commit_run(2, activate=True),)),
    Scene("commit --move", one, (commit_run(2, move=True),), again=False),
    Scene("commit in place", _in_place, (_commit_in_place,)),
    Scene("commit --adapter", _merge, (_commit_merge,)),
    Scene("commit of what was damaged", _damaged, (commit_run(1),)),
    Scene("commit over an edited view", _edited, (set_prod,)),
    Scene("checkout -o", two, (to_out("v1.1"),)),
    Scene("checkout over another", _checked_out, (to_out("v1.1"),)),
    Scene("checkout in place", two, (on("v1.0", checkout),)),
    Scene("release", _hydrated, (on("v1.0", release),)),
    Scene("set-active", two, (on("v1.1", set_active),)),
    Scene("rollback", _moved_active, (_rollback,)),
    Scene("alias", two, (set_prod,)),
    Scene("alias removed", _aliased, (_without_alias,)),
    Scene("note", two, (_note,)),
    Scene("use", two, (_use,)),
    Scene("repack", _unrelated, (lambda world: repack(store_in(world)),)),
    Scene(
        "repack --effort max", _merged, (lambda world: repack(store_in(world), effort=Effort.MAX),)
    ),
    Scene("rm", two, (rm_second,)),
    Scene("undelete", _removed, (_undelete,)),
    Scene("undelete from the trash", _in_trash, (_undelete,)),
    Scene("gc", _removed, (collect(),)),
    Scene("gc --purge-now", _removed, (collect(purge_now=True),)),
    Scene("gc --keep-last 1", _moved_active, (collect(Policy(last=1)),)),
    Scene("commit of what is in the trash", _in_trash, (commit_run(2),)),
    Scene("fsck --repair", _repairable, (_repair,)),
    Scene(
        "repack, then commit", _unrelated, (lambda world: repack(store_in(world)), commit_run(5))
    ),
    Scene("adopt", _old, (_adopt,)),
    Scene("change of a clone", _cloned, (commit_run(3),)),
    Scene("many changes", _many, tuple(map(_back_and_forth, range(1, 13))), compact_every=4),
)


def scene(name: str) -> Scene:
    """Return the scene called ``name``."""
    return next(one for one in SCENES if one.name == name)


def show(value: object) -> str:
    """Return a value for the message of a failed test."""
    return json.dumps(value, indent=1, default=str)

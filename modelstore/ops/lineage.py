"""The lineage of a model: its versions, and what they were made from, here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modelstore.charts import Edge, Node
from modelstore.hashing import Digest
from modelstore.names import ModelName
from modelstore.state import Entry, State
from modelstore.store import Store

_BASE = "\0base "

Href = Callable[[ModelName, str], str]
"""Makes the path that leads to a version."""


def lineage(
    store: Store, model: ModelName, state: State | None = None, *, href: Href | None = None
) -> tuple[list[Node], list[Edge]]:
    """Return the versions of a model as a graph, oldest first.

    Parents in other models are nodes that lie outside, as are base models that have no version
    here; a parent that is in no model any more is told by its digest.

    Args:
        state: the registry of the model, where it was read already.
        href: makes links.
    """
    state = state if state is not None else store.state(model)
    entries = state.entries()
    known = {entry.id: str(entry.version) for entry in entries if entry.id is not None}
    nodes = [_node(model, state, entry, href) for entry in entries]
    edges, strange = [], dict[Digest, None]()
    for entry in entries:
        for parent in entry.parents:
            edges.append(Edge(str(entry.version), known.get(parent, str(parent))))
            if parent not in known:
                strange[parent] = None
        base = entry.text("base_model") or state.base_model
        if not entry.parents and base:
            edges.append(Edge(str(entry.version), _BASE + base))
    bases = dict.fromkeys(edge.parent for edge in edges if edge.parent.startswith(_BASE))
    nodes += [Node(key, key.removeprefix(_BASE), "base model", outside=True) for key in bases]
    return [*nodes, *_elsewhere(store, model, list(strange), href)], edges


def _node(model: ModelName, state: State, entry: Entry, href: Href | None) -> Node:
    version = str(entry.version)
    aliases = sorted(alias for alias, named in state.aliases.items() if named == version)
    subject = next(iter((entry.text("message") or entry.text("description")).splitlines()), "")
    return Node(
        key=version,
        label=version,
        note=" ".join(filter(None, (f"({', '.join(aliases)})" if aliases else "", subject))),
        active=version == state.active,
        href=href(model, version) if href is not None else "",
    )


def _elsewhere(
    store: Store, model: ModelName, parents: Sequence[Digest], href: Href | None
) -> list[Node]:
    """Return what other models call versions, for parents that this one does not have."""
    wanted = set(parents)
    found: dict[Digest, Node] = {}
    for other in store.models() if wanted else ():
        if other == model:
            continue
        for entry in store.state(other).entries():
            if entry.id in wanted and entry.id is not None and entry.id not in found:
                version = str(entry.version)
                path = href(other, version) if href is not None else ""
                found[entry.id] = Node(
                    str(entry.id), f"{other}@{version}", "another model", outside=True, href=path
                )
    gone = [
        Node(str(digest), str(digest)[:12], "not in this store", outside=True)
        for digest in parents
        if digest not in found
    ]
    return [*found.values(), *gone]

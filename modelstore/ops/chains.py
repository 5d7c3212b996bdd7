"""Chains of records that were made elsewhere become those of a registry here.

Either they follow our newest record, and are added one by one; or they take the place of ours, as
after a rebase. Whoever calls this holds the store's lock, has put the versions' directories in
place, and knows that nothing of ours is lost.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.errors import ConflictError
from modelstore.hashing import digest_of
from modelstore.names import ModelName
from modelstore.records import base_path, record_path
from modelstore.registry import COMPACT_EVERY, JOURNAL
from modelstore.state import apply, empty_document, parse_record
from modelstore.store import Store
from modelstore.view import render


def replay(before: Mapping[str, Any], payloads: Sequence[bytes]) -> dict[str, Any]:
    """Return the state that records lead to, the oldest first.

    Raises:
        IntegrityError: one does not follow the one before it.
    """
    document = dict(before)
    for payload in payloads:
        document = apply(document, parse_record(payload, document), digest_of(payload))
    return document


def replay_all(model: ModelName, chain: Mapping[int, bytes], last: int) -> dict[str, Any] | None:
    """Return the state after change ``last``; None where the chain does not begin at the beginning."""
    if any(seq not in chain for seq in range(1, last + 1)):
        return None
    return replay(empty_document(model), [chain[seq] for seq in range(1, last + 1)])


def extend(store: Store, model: ModelName, payloads: Sequence[bytes]) -> None:
    """Add records that follow our newest, byte for byte, the oldest first.

    Raises:
        IntegrityError: one does not follow the one before it.
        ConflictError: another process was faster.
    """
    registry = store.registry(model)
    before = registry.state().document
    if not registry.chains(before):
        registry.take_over()
    refs = registry.records.refs
    disk.make_dir(refs)
    if not registry.chains(before):
        disk.replace(base_path(refs, before["seq"]), render(before))
    document = dict(before)
    for payload in payloads:
        document = replay(document, [payload])
        try:
            disk.create(record_path(refs, document["seq"]), payload)
        except FileExistsError as error:
            raise ConflictError(
                f"another process changed {model} at the same moment", "run the command again"
            ) from error
    disk.sync_dir(refs)
    registry.append_journal(document["seq"], payloads[-1])
    registry.write_view(document)


def follow(
    store: Store, model: ModelName, document: Mapping[str, Any], payloads: Sequence[bytes]
) -> None:
    """Take a state, and the records that led to it, in place of our own, which go to the trash.

    Until the directory of our own records moves, they decide; from then on the new ones do.

    Args:
        payloads: the records, the oldest first, as far as they are known.
    """
    registry = store.registry(model)
    refs = registry.records.refs
    new = refs.with_name(f".{model}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    disk.make_dir(registry.directory)
    disk.make_dir(refs.parent)
    disk.make_new_dir(new)
    try:
        _write_refs(new, document, payloads)
        # first: it decides nothing, and whoever finds it there and the rest not does all of it again
        disk.replace(registry.directory / JOURNAL, b"".join(payloads))
        if registry.has_records():
            registry.write_view(document)
            store.blobs.trash().put_directory(refs, f"refs of {model}")
        disk.remove_empty_dirs([refs])
        disk.move_new(new, refs)
    except BaseException:
        disk.remove_tree(new)
        raise
    registry.write_view(document)


def _write_refs(refs: Path, document: Mapping[str, Any], payloads: Sequence[bytes]) -> None:
    seq = document["seq"]
    disk.replace(base_path(refs, seq), render(document))
    last = payloads[-COMPACT_EVERY:]
    for number, payload in enumerate(last, start=seq - len(last) + 1):
        disk.create(record_path(refs, number), payload)
    disk.sync_dir(refs)

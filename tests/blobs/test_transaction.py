"""Adding blobs: all or nothing, whoever else does the same, and whatever was damaged."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modelstore.blobs import BlobStore, BytesSource, remove_abandoned
from modelstore.blobs.choice import DEEPEST
from modelstore.errors import ConflictError, IntegrityError
from modelstore.hashing import digest_of
from modelstore.numeric import BYTES
from tests.blobs.conftest import BF16, add, damage, fine_tuned, store_at


def frames(store: BlobStore) -> list[Path]:
    """Return every file below `blobs/`."""
    return [path for path in (store.root / "blobs").rglob("*") if path.is_file()]


def flip(path: Path, place: int) -> None:
    """Damage one byte of a frame."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    damage(path, bytes(content))


def test_nothing_is_visible_before_publish(store: BlobStore):
    """What is staged is not in the store, and is gone when the context ends."""
    with store.transaction() as transaction:
        digest = transaction.add_bytes(b"hello")
        assert digest not in store
        assert list(transaction.directory.iterdir())
    assert frames(store) == []
    assert list((store.root / "tmp").iterdir()) == []


def test_an_error_inside_leaves_nothing(store: BlobStore):
    """An exception in the context removes what was staged."""

    def fail() -> None:
        with store.transaction() as transaction:
            transaction.add_bytes(b"hello")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert frames(store) == []
    assert list((store.root / "tmp").iterdir()) == []


def test_the_same_blob_costs_once(store: BlobStore):
    """A blob that the transaction or the store has is not encoded again."""
    data = fine_tuned(1)[0]
    digest = digest_of(data)
    with store.transaction() as transaction:
        first = transaction.add(digest, BytesSource(data), dtype=BF16)
        again = transaction.add(digest, BytesSource(data), dtype=BF16)
        transaction.publish()
        third = transaction.add(digest, BytesSource(data), dtype=BF16)
    assert [first.new, again.new, third.new] == [1, 0, 0]
    assert {first.stored_size, again.stored_size, third.stored_size} == {
        store.path(digest).stat().st_size
    }


def test_changed_bytes_are_a_conflict(store: BlobStore):
    """A source that is not what its digest says is refused, and nothing stays staged."""
    old, new = fine_tuned(2)
    with store.transaction() as transaction:
        with pytest.raises(ConflictError, match="changed while"):
            transaction.add(digest_of(old), BytesSource(new), dtype=BF16)
        assert list(transaction.directory.iterdir()) == []
        transaction.publish()
    assert frames(store) == []


def test_a_base_is_taken_only_if_it_wins(store: BlobStore):
    """A near base makes a delta, an unrelated one does not, an absent one is passed over."""
    old, new, far = *fine_tuned(2), fine_tuned(1)[0][::-1]
    add(store, old)
    add(store, far)
    assert add(store, new, b"absent", far, old)[1].built_on == (digest_of(old),)
    other = fine_tuned(3)[2]
    assert add(store, other, far)[1].built_on == ()


def test_a_base_in_the_same_transaction(store: BlobStore):
    """A blob can be made against one that is staged beside it."""
    old, new = fine_tuned(2)
    with store.transaction() as transaction:
        transaction.add(digest_of(old), BytesSource(old), dtype=BF16)
        added = transaction.add(
            digest_of(new), BytesSource(new), dtype=BF16, bases=[digest_of(old)]
        )
        transaction.publish()
    assert added.built_on == (digest_of(old),)
    assert store.read(digest_of(new)) == new


def test_a_base_may_be_shorter_or_longer(store: BlobStore):
    """A tensor that got rows, or lost some, is stored as a change of what both have."""
    old, new = fine_tuned(2)
    for name, data, base in (("grown", new, old[:4000]), ("shrunk", new[:4000], old)):
        add(store, base)
        digest, added = add(store, data, base)
        assert added.built_on == (digest_of(base),), name
        assert store.read(digest) == data, name


def test_chains_stay_short(store: BlobStore):
    """A parent that is too deep gives way to one of its own bases."""
    versions = fine_tuned(9)
    depths = []
    for index, data in enumerate(versions):
        digest, _ = add(store, data, *versions[max(0, index - 1) : index])
        depths.append(store.header(digest).depth)
    assert max(depths) == DEEPEST
    assert depths.count(0) == 1
    assert [store.read(digest_of(data)) for data in versions] == versions


def test_noise_is_stored_raw_and_text_small(store: BlobStore):
    """The codec follows the bytes."""
    import numpy as np

    assert add(store, np.random.default_rng(0).bytes(5000), dtype="")[1].codec == "raw"
    assert add(store, b"text " * 1000, dtype="")[1].codec == "zstd"
    assert add(store, fine_tuned(1)[0])[1].codec == "planes"


def test_a_damaged_frame_is_healed(store: BlobStore):
    """Adding the blob again replaces its damaged frame by one without a base."""
    first, second, third = fine_tuned(3)
    add(store, first)
    digest, _ = add(store, second, first)
    add(store, third, second)
    flip(store.path(digest), -1)
    added = add(store, second, first)[1]
    assert (added.new, added.built_on, store.header(digest).depth) == (1, (), 0)
    assert [store.read(digest_of(data)) for data in (first, second, third)] == [
        first,
        second,
        third,
    ]


def test_a_blob_whose_base_is_lost_is_healed(store: BlobStore):
    """What cannot be read is not "there already"."""
    old, new = fine_tuned(2)
    add(store, old)
    digest, _ = add(store, new, old)
    store.path(digest_of(old)).unlink()
    assert add(store, new)[1].new
    assert store.read(digest) == new


def test_a_damaged_base_is_passed_over(store: BlobStore):
    """A commit does without a damaged base."""
    old, new = fine_tuned(2)
    base, _ = add(store, old)
    flip(store.path(base), -1)
    assert add(store, new, old)[1].built_on == ()


def test_two_transactions_add_the_same(store: BlobStore):
    """The second finds the blob published, keeps it, and says nothing."""
    data = fine_tuned(1)[0]
    digest = digest_of(data)
    with store.transaction() as one, store.transaction() as two:
        one.add(digest, BytesSource(data), dtype=BF16)
        two.add(digest, BytesSource(data), dtype=BF16)
        one.publish()
        two.publish()
    assert store.read(digest) == data


def test_a_deeper_frame_that_came_first_gives_way(store: BlobStore):
    """What was staged on our frame still fits, whichever way the other writer encoded it."""
    root, middle, top = fine_tuned(3)
    add(store, root)
    with store.transaction() as ours, store.transaction() as theirs:
        ours.add(digest_of(middle), BytesSource(middle), dtype=BF16)
        ours.add(digest_of(top), BytesSource(top), dtype=BF16, bases=[digest_of(middle)])
        theirs.add(digest_of(middle), BytesSource(middle), dtype=BF16, bases=[digest_of(root)])
        theirs.publish()
        ours.publish()
    assert store.header(digest_of(middle)).depth == 0
    assert store.read(digest_of(top)) == top


def test_a_base_that_vanished_is_a_conflict(store: BlobStore):
    """A blob is not published when what it is built on was taken away meanwhile."""
    old, new = fine_tuned(2)
    base, _ = add(store, old)
    with store.transaction() as transaction:
        transaction.add(digest_of(new), BytesSource(new), dtype=BF16, bases=[base])
        store.path(base).unlink()
        with pytest.raises(ConflictError, match=base):
            transaction.publish()
    assert frames(store) == []


def test_a_frame_damaged_meanwhile_is_not_replaced_by_a_delta(store: BlobStore):
    """Only a frame without a base may replace one whose depth is no longer known."""
    old, new = fine_tuned(2)
    add(store, old)
    with store.transaction() as transaction:
        transaction.add(digest_of(new), BytesSource(new), dtype=BF16, bases=[digest_of(old)])
        store.path(digest_of(new)).write_bytes(b"junk")
        with pytest.raises(IntegrityError):
            transaction.publish()


def test_threads_share_a_transaction(store: BlobStore):
    """Blobs added from several threads at once are all there, the same one only once."""
    versions = fine_tuned(6) * 3
    with store.transaction() as transaction:

        def one(data: bytes) -> None:
            transaction.add(digest_of(data), BytesSource(data), dtype=BF16)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, versions))
        transaction.publish()
    assert set(store.iter_digests()) == {digest_of(data) for data in versions}
    assert [store.read(digest_of(data)) for data in versions] == versions
    assert not [one for one in threading.enumerate() if one.name.startswith("mstore-")]


ADD = """
import sys
from pathlib import Path
from modelstore.blobs import BlobStore
store = BlobStore(Path(sys.argv[1]), block_log2=8)
with store.transaction() as transaction:
    for number in range(40):
        transaction.add_bytes(b"%d" % number * 100)
    print("staged", flush=True)
    if sys.argv[2] == "wait":
        sys.stdin.read()
    transaction.publish()
"""


def run(store: BlobStore, mode: str) -> subprocess.Popen[str]:
    """Start a process that adds forty blobs."""
    command = [sys.executable, "-c", ADD, str(store.root), mode]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_add_the_same_blobs_at_once(store: BlobStore):
    """Three processes that publish the same blobs all succeed, and every blob is sound."""
    processes = [run(store, "wait") for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "staged\n"
    for process in processes:
        process.stdin.close()
    for process in processes:
        with process:
            assert process.wait(60) == 0
    assert len(frames(store)) == 40
    for digest in store.iter_digests():
        store.check(digest)


def test_a_killed_process_leaves_nothing_in_blobs(store: BlobStore):
    """Its staging is removed as abandoned, and a live one's is not."""
    with run(store, "wait") as process:
        assert process.stdout.readline() == "staged\n"
        assert remove_abandoned(store.root) == 0
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        process.stdin.close()
    assert frames(store) == []
    with store.transaction() as live:
        assert remove_abandoned(store.root) == 1
        assert remove_abandoned(store.root) == 0
        assert live.directory.is_dir()
    assert list((store.root / "tmp").iterdir()) == []


def test_memory_is_bounded_by_blocks(tmp_path: Path):
    """A source is read block by block, never far ahead of what was written."""
    store = store_at(tmp_path / ".mstore", threads=2, block_log2=10)

    class Endless:
        size = 3_000_000
        most = 0

        def read(self, start: int, stop: int) -> bytes:
            self.most = max(self.most, stop - start)
            return bytes(stop - start)

    source = Endless()
    with store.transaction() as transaction:
        added = transaction.add(digest_of(bytes(source.size)), source, dtype=BYTES)
    assert source.most <= 1 << 16
    assert added.stored_size < 100_000

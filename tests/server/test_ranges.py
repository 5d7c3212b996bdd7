"""Parts of files: what a Range means, and that no more is decoded than it touches."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.blobs.reader import BlobReader
from modelstore.blobs.store import BlobStore
from modelstore.errors import IntegrityError, UsageError
from modelstore.manifest import FileEntry
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.stream import Streams
from modelstore.server.ranges import Window, unchanged, window
from modelstore.store import Store, create
from tests.builders import Values, safetensors_bytes
from tests.models import write_model
from tests.server.conftest import Scene
from tests.server.live import serving

URL = "/llama_1b/resolve/v1.1/model.safetensors"
TAG = '"abc"'


# --- what a header means


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-999", (90, 100)),
        ("bytes=90-99999999999999999999999", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-999", (0, 100)),
        ("BYTES = 3 - 3", (3, 4)),
        ("bytes=99-99", (99, 100)),
        ("bytes=100-", None),
        ("bytes=100-200", None),
        ("bytes=-0", None),
    ],
)
def test_a_range_is_a_window(text: str, wanted: tuple[int, int] | None) -> None:
    """First and last byte, from a byte on, or the last bytes; None is what the file has not."""
    found = window({"range": text}, 100, TAG)
    assert found == (None if wanted is None else Window(*wanted, 100, partial=True))


@pytest.mark.parametrize(
    "text",
    ["", "bytes", "bytes=", "bytes=-", "bytes=9-3", "bytes=a-b", "lines=0-9", "bytes=0-1,4-5",
     "bytes=0-9 ,", "bytes=" + "9" * 50 + "-", "bytes=٣-٤", "bytes=0x1-0x2", "bytes=+1-2"],
)  # fmt: skip
def test_what_is_no_single_range_is_passed_over(text: str) -> None:
    """Then the whole file is the answer, as if no range had been asked for."""
    assert window({"range": text}, 100, TAG) == Window(0, 100, 100)


def test_thousands_of_ranges_are_passed_over_at_once() -> None:
    """As many as the head of a request can hold take no longer than one."""
    began = time.monotonic()
    assert window({"range": "bytes=" + "0-1," * 16_000}, 100, TAG) == Window(0, 100, 100)
    assert time.monotonic() - began < 0.5


def test_a_range_of_another_state_of_the_file_is_passed_over() -> None:
    """If-Range has the ETag that the rest of the file must have."""
    assert window({"range": "bytes=5-", "if-range": '"old"'}, 100, TAG) == Window(0, 100, 100)
    part = window({"range": "bytes=5-", "if-range": TAG}, 100, TAG)
    assert part == Window(5, 100, 100, partial=True)


@given(st.text(max_size=40), st.integers(0, 1 << 40))
def test_any_header_gives_bytes_that_the_file_has(text: str, size: int) -> None:
    """Whatever a client writes, the window lies within the file."""
    for header in (text, f"bytes={text}", f"bytes={text}-", f"bytes=-{text}"):
        found = window({"range": header}, size, TAG)
        assert found is None or 0 <= found.start <= found.stop <= size


@pytest.mark.parametrize(
    ("text", "known"),
    [(TAG, True), (f'W/{TAG}, "x"', True), ("*", True), ('"x"', False), ("", False)],
)
def test_a_known_file_is_known_by_its_tag(text: str, known: bool) -> None:
    """If-None-Match lists tags; `*` is any."""
    assert unchanged({"if-none-match": text}, TAG) is known


# --- over the wire


@pytest.mark.parametrize(
    ("text", "cut"),
    [("bytes=0-0", slice(0, 1)), ("bytes=7-4999", slice(7, 5000)), ("bytes=-5", slice(-5, None)),
     ("bytes=100-", slice(100, None))],
)  # fmt: skip
def test_a_part_of_a_file_is_those_bytes(scene: Scene, text: str, cut: slice) -> None:
    """A range is answered with 206, its bytes and where they lie."""
    data = (scene.directories["v1.1"] / "model.safetensors").read_bytes()
    answer = scene.live.ask(URL, headers={"Range": text})
    start, stop, _ = cut.indices(len(data))
    assert (answer.status, answer.body) == (206, data[cut])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(data)}"
    head = scene.live.ask(URL, "HEAD", {"Range": text})
    assert (head.status, head.headers["content-length"]) == (206, str(stop - start))


def test_bytes_that_a_file_has_not_cannot_be_had(scene: Scene) -> None:
    """A range beyond the end is a 416 that says how long the file is."""
    answer = scene.live.ask(URL, headers={"Range": "bytes=999999-"})
    size = (scene.directories["v1.1"] / "model.safetensors").stat().st_size
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")


# --- streams


class Counting(BlobStore):
    """A store that counts what is decoded."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, threads=2)
        self.decoded: list[tuple[str, int]] = []

    def open(self, digest):  # type: ignore[no-untyped-def]
        """Open as ever, and note every block."""
        reader = super().open(digest)
        plain = reader.block

        def block(index: int) -> memoryview:
            self.decoded.append((reader.header.digest, index))
            return plain(index)

        reader.block = block
        return reader


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, FileEntry, bytes]:
    """The second version of a file of 5 MiB, whose tensors are of several blocks, on a base."""
    root = tmp_path_factory.mktemp("large")
    store = create(root / "tuned_models")
    store.blobs.block_log2 = 16
    random = np.random.default_rng(0)
    base = {f"w{n}": random.normal(0, 0.02, 1 << 18).astype(np.float32) for n in range(4)}
    base |= {f"norm{n}": random.normal(0, 1, 64).astype(np.float32) for n in range(40)}
    for step in range(2):
        for values in base.values():
            values += np.float32(step * 1e-4) * random.normal(0, 1, values.size).astype(np.float32)
        tensors = {name: Values("F32", v.shape, v.tobytes()) for name, v in base.items()}
        data = safetensors_bytes(tensors)
        directory = write_model(root / f"run{step}", files={"model.safetensors": data})
        commit(store, directory, ModelName("llama_1b"), CommitOptions("m", activate=True))
    entry = store.state(ModelName("llama_1b")).entry("v1.1")
    assert entry is not None
    file = store.manifest(ModelName("llama_1b"), entry).file("model.safetensors")
    assert file is not None
    assert max(store.blobs.header(span.blob).depth for span in file.spans) == 1
    return store, file, data


def test_a_stream_is_the_file(large: tuple[Store, FileEntry, bytes]) -> None:
    """All pieces joined are the file, and small blobs come together in one."""
    store, file, data = large
    streams = Streams(store.blobs)
    pieces = [bytes(piece) for piece in streams.read(file)]
    streams.close()
    assert b"".join(pieces) == data
    assert len(pieces) < len(file.spans)


def test_any_range_of_a_stream_is_that_of_the_file(large: tuple[Store, FileEntry, bytes]) -> None:
    """Ranges within blocks, across blocks and across blobs are what the file has there."""
    store, file, data = large
    streams = Streams(store.blobs)
    random = np.random.default_rng(1)
    for start, stop in np.sort(random.integers(0, len(data) + 1, (60, 2))).tolist():
        assert b"".join(streams.read(file, start, stop)) == data[start:stop]
    assert b"".join(streams.read(file, 5, 5)) == b""
    with pytest.raises(UsageError, match="has no bytes"):
        streams.read(file, 0, file.size + 1)
    streams.close()


def test_a_range_decodes_the_blocks_that_it_touches(
    large: tuple[Store, FileEntry, bytes],
) -> None:
    """Two bytes on both sides of the middle of a tensor are two blocks, and no others."""
    store, file, data = large
    counting = Counting(store.blobs.root)
    streams = Streams(counting)
    at = next(n for n, span in enumerate(file.spans) if span.size == 1 << 20)
    middle = sum(span.size for span in file.spans[:at]) + (1 << 19)
    assert b"".join(streams.read(file, middle - 1, middle + 1)) == data[middle - 1 : middle + 1]
    streams.close()
    blob = file.spans[at].blob
    assert sorted(set(counting.decoded)) == [(blob, 1), (blob, 2)]


def test_a_stream_that_is_left_decodes_no_further(
    large: tuple[Store, FileEntry, bytes],
) -> None:
    """Three MiB, on two threads, are decoded ahead of whoever reads, and none once they stop."""
    store, file, _ = large
    counting = Counting(store.blobs.root)
    streams = Streams(counting)
    pieces = streams.read(file)
    next(pieces)
    pieces.close()
    streams.close()
    assert len(counting.decoded) * (4 << 16) <= 3 << 20 < file.size


def test_bytes_that_hash_otherwise_are_never_given_away(
    large: tuple[Store, FileEntry, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that decodes to something else than its name says ends before its last block."""
    store, file, data = large
    plain = BlobReader.block
    wrong = max(file.spans, key=lambda span: span.size).blob

    def lying(self: BlobReader, index: int) -> memoryview:
        block = plain(self, index)
        if self.header.digest != wrong or index:
            return block
        return memoryview(bytes(len(block)))

    monkeypatch.setattr(BlobReader, "block", lying)
    streams = Streams(store.blobs)
    got = bytearray()
    with pytest.raises(IntegrityError, match="hash to"):
        got.extend(itertools.chain.from_iterable(streams.read(file)))
    streams.close()
    assert len(got) < len(data)


def test_damage_in_the_middle_cuts_the_answer_short(
    large: tuple[Store, FileEntry, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was promised by Content-Length does not come, and the terminal says why."""
    import http.client

    store, file, _ = large
    plain = BlobReader.block
    last = [span for span in file.spans if span.size == 1 << 20][-1].blob

    def failing(self: BlobReader, index: int) -> memoryview:
        if self.header.digest == last and index:
            raise IntegrityError("block 1 is damaged")
        return plain(self, index)

    with serving(store) as live:
        monkeypatch.setattr(BlobReader, "block", failing)
        with pytest.raises(http.client.IncompleteRead):
            live.ask("/llama_1b/resolve/main/model.safetensors")
        assert live.ask("/llama_1b/resolve/main/config.json").status == 200
        assert any("block 1 is damaged" in line for line in live.reports)


def test_many_readers_of_parts_get_their_bytes(large: tuple[Store, FileEntry, bytes]) -> None:
    """32 clients that read ranges at the same time get every byte right."""
    store, _, data = large
    random = np.random.default_rng(2)
    ranges = np.sort(random.integers(0, len(data), (192, 2))).tolist()
    with serving(store) as live, ThreadPoolExecutor(32) as pool:
        barrier = threading.Barrier(32)

        def read(number: int) -> None:
            if number < 32:
                barrier.wait()
            start, last = ranges[number]
            headers = {"Range": f"bytes={start}-{last}"}
            answer = live.ask("/llama_1b/resolve/main/model.safetensors", headers=headers)
            assert (answer.status, answer.body) == (206, data[start : last + 1])

        list(pool.map(read, range(len(ranges))))

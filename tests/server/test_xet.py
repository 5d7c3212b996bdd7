"""Xet's formats: what a client sends is taken apart as it was put together, and nothing else is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.names import ModelName
from modelstore.ops.init import begin_line
from modelstore.server.xet.merkle import chunk_hash, from_hex, to_hex
from modelstore.server.xet.shard import BadShardError, files
from modelstore.server.xet.xorb import BadXorbError, XorbDecoder, ungroup
from modelstore.store import Store, create
from tests.server.live import TOKEN, Answer, Live, serving
from tests.server.xet_builders import Chunk, Row, group, name_of, shard_of, xorb_of

CHUNKS = st.lists(
    st.tuples(
        st.one_of(
            st.binary(min_size=1, max_size=300),
            st.tuples(st.binary(min_size=1, max_size=5), st.integers(1, 200)).map(
                lambda pair: pair[0] * pair[1]
            ),
        ),
        st.sampled_from([0, 1, 2]),
    ),
    min_size=1,
    max_size=30,
)
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def decoded(body: bytes, cuts: Sequence[int] = ()) -> tuple[bytes, list[int], str]:
    """Return what a xorb holds, where its chunks end, and its name."""
    decoder = XorbDecoder()
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    raw = b"".join(decoder.feed(body[start:stop]) for start, stop in pairwise(places))
    return raw, list(decoder.ends), decoder.name()


@given(CHUNKS, st.lists(st.integers(0, 1 << 20), max_size=5))
def test_a_xorb_gives_its_chunks_however_it_comes(chunks: list[Chunk], cuts: list[int]) -> None:
    """The bytes of all chunks come out, whatever pieces the body comes in."""
    raw, ends, name = decoded(xorb_of(chunks), cuts)
    assert raw == b"".join(chunk for chunk, _ in chunks)
    assert ends == [sum(len(c) for c, _ in chunks[: n + 1]) for n in range(len(chunks))]
    assert name == name_of(chunks)


def test_a_footer_is_passed_over() -> None:
    """Older clients end a xorb with a footer, which says nothing new."""
    chunks = [(b"a" * 1000, 1), (b"b" * 10, 0)]
    assert decoded(xorb_of(chunks) + b"XETBLOB" + b"?" * 500, [1010])[2] == name_of(chunks)


@given(CHUNKS, st.data())
def test_a_damaged_xorb_is_refused_or_has_another_name(
    chunks: list[Chunk], data: st.DataObject
) -> None:
    """A changed byte, or a missing end, never passes for the xorb that it was."""
    body = bytearray(xorb_of(chunks))
    at = data.draw(st.integers(0, len(body) - 1))
    if data.draw(st.booleans()):
        body[at] ^= data.draw(st.integers(1, 255))
    else:
        del body[at:]
    try:
        raw, _, name = decoded(bytes(body))
    except BadXorbError:
        return
    assert name != name_of(chunks) or raw == b"".join(chunk for chunk, _ in chunks)


@given(st.binary(max_size=400))
def test_anything_else_is_no_xorb(body: bytes) -> None:
    """Whatever is sent, it is a xorb or a clear refusal."""
    with suppress(BadXorbError):
        assert decoded(body)[1]


def test_a_chunk_that_grows_is_given_up() -> None:
    """What a few bytes decompress to is bounded by what the chunk says that it is."""
    data = lz4.frame.compress(bytes(1 << 24))
    head = b"\0" + len(data).to_bytes(3, "little") + b"\1" + (1000).to_bytes(3, "little")
    with pytest.raises(BadXorbError, match="not as long as it says"):
        decoded(head + data)


def test_a_xorb_is_bounded() -> None:
    """More than 64 MiB, or more chunks than a xorb may have, are refused when they are announced."""
    empty = lz4.frame.compress(bytes((1 << 24) - 1))
    head = b"\0" + len(empty).to_bytes(3, "little") + b"\1" + b"\xff" * 3
    with pytest.raises(BadXorbError, match="67108864 bytes"):
        decoded((head + empty) * 5)
    with pytest.raises(BadXorbError, match="8192 chunks"):
        decoded(xorb_of([(b"a", 0)]) * 8193)


@given(st.binary(max_size=100))
def test_grouped_bytes_are_put_back(raw: bytes) -> None:
    """Bytes that were grouped by their place in four come back in order."""
    assert ungroup(group(raw)) == raw


def test_hashes_are_those_of_xet() -> None:
    """A chunk of zeros has the name that hf_xet 1.8 gives it; a xorb of one chunk has the same."""
    name = "07a07593c8d943578b8715364fde76eea84e81b84c636b5636786bf7779e9140"
    assert to_hex(chunk_hash(bytes(100_000))) == name
    assert name_of([(bytes(100_000), 0)]) == name
    assert to_hex(from_hex(name)) == name


HASHES = st.binary(min_size=32, max_size=32).map(to_hex).filter(lambda name: name != "f" * 64)
TERMS = st.lists(
    st.tuples(HASHES, *[st.integers(0, (1 << 32) - 1)] * 3), max_size=6
)  # fmt: skip
FILES = st.lists(st.tuples(HASHES, st.one_of(st.just(""), HASHES), TERMS), max_size=4)


@given(FILES, st.booleans())
def test_a_shard_gives_its_files(listed: list[tuple[str, str, list[Row]]], verified: bool) -> None:
    """Names, SHA-256s and terms come out as they were put in."""
    found = [
        (file.name, file.sha256, [(t.xorb, t.size, t.start, t.stop) for t in file.terms()])
        for file in files(shard_of(listed, verified=verified))
    ]
    assert found == listed


@given(FILES, st.data())
def test_a_damaged_shard_is_read_or_refused(
    listed: list[tuple[str, str, list[Row]]], data: st.DataObject
) -> None:
    """Whatever becomes of a shard, reading it ends, and with no other error."""
    body = bytearray(shard_of(listed))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))])
    with suppress(BadShardError):
        assert all(file.size >= 0 for file in files(cut) if list(file.terms()))


# --- a server that chunks are sent to


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a line that has no version."""
    store = create(tmp_path_factory.mktemp("xet") / "tuned_models")
    begin_line(store, ModelName("tiny"))
    return store


@pytest.fixture(scope="module")
def live(store: Store) -> Iterator[Live]:
    """A server that takes changes."""
    with serving(store, token=TOKEN) as live:
        yield live


@pytest.fixture
def home(live: Live) -> tuple[str, dict[str, str]]:
    """Where chunks are sent to, and the headers that this takes."""
    answer = live.ask("/api/models/tiny/xet-write-token/main", headers=AUTHORIZED)
    told = answer.json
    assert answer.headers["x-xet-cas-url"] == told["casUrl"]
    assert answer.headers["x-xet-access-token"] == told["accessToken"] != TOKEN
    path = told["casUrl"].removeprefix(live.url)
    return path, {"Authorization": f"Bearer {told['accessToken']}"}


def send(live: Live, home: tuple[str, dict[str, str]], path: str, body: bytes) -> Answer:
    """Send a xorb or a shard."""
    return live.ask(home[0] + path, "POST", home[1], body)


CONTENT = [(b"chunk %d " % n * 500, n % 3) for n in range(7)]


def test_a_file_is_put_together_and_committed(
    live: Live, store: Store, home: tuple[str, dict[str, str]]
) -> None:
    """Chunks in any order make a file, which a commit then finds by its SHA-256."""
    name = name_of(CONTENT)
    sizes = [len(raw) for raw, _ in CONTENT]
    raw = b"".join(c for c, _ in CONTENT[3:]) + CONTENT[0][0]
    sha256 = hashlib.sha256(raw).hexdigest()
    terms = [(name, sum(sizes[3:]), 3, 7), (name, sizes[0], 0, 1)]
    path = f"/v1/xorbs/default/{name}"
    assert send(live, home, path, xorb_of(CONTENT)).json == {"was_inserted": True}
    assert send(live, home, path, xorb_of(CONTENT)).json == {"was_inserted": False}
    shard = shard_of([("0" * 64, sha256, terms)])
    assert send(live, home, "/v1/shards", shard).json == {"result": 1}
    assert send(live, home, "/v1/shards", shard).json == {"result": 1}
    lines: list[object] = [
        {"key": "header", "value": {"summary": "m"}},
        {"key": "lfsFile", "value": {"path": "model.dat", "oid": sha256, "size": len(raw)}},
    ]
    body = "\n".join(map(json.dumps, lines)).encode()
    assert live.ask("/api/models/tiny/commit/main", "POST", AUTHORIZED, body).status == 200
    assert live.ask("/tiny/resolve/main/model.dat").body == raw
    told = live.ask("/api/models/tiny/xet-write-token/main", headers=AUTHORIZED).json
    assert not told["casUrl"].endswith(home[0])  # what the client remembers of it ends there


@pytest.mark.parametrize(
    ("terms", "sha256", "words"),
    [
        ([("1" * 64, 10, 0, 1)], "", "was not sent"),
        ([("", 10, 0, 99)], "", "no chunks 0 to 99"),
        ([("", 10, 1, 1)], "", "no chunks 1 to 1"),
        ([("", 10, 0, 1)], "", "have not 10 bytes"),
        ([("", 4000, 0, 1)], "2" * 64, "has not the SHA-256"),
        ([("", (1 << 32) - 1, 0, 1)] * 5_000, "", "are free"),
    ],
)
def test_a_shard_that_does_not_fit_is_refused(
    live: Live, home: tuple[str, dict[str, str]], terms: list[Row], sha256: str, words: str
) -> None:
    """Chunks that never came, or are not those, and files larger than the disk, end in a sentence."""
    name = name_of(CONTENT)
    assert send(live, home, f"/v1/xorbs/default/{name}", xorb_of(CONTENT)).status == 200
    rows = [(xorb or name, size, start, stop) for xorb, size, start, stop in terms]
    answer = send(live, home, "/v1/shards", shard_of([("3" * 64, sha256, rows)]))
    assert (answer.status, words in answer.json["error"]) == (413 if "free" in words else 400, True)


def test_a_body_that_is_something_else_is_refused(
    live: Live, home: tuple[str, dict[str, str]], store: Store
) -> None:
    """What is no xorb, or not the one that it is called, leaves nothing behind."""
    before = sorted(store.meta.rglob("tmp/*/tiny/*"))
    name = name_of(CONTENT)
    for path, body, words in (
        (f"/v1/xorbs/default/{name}", b"", "has none"),
        (f"/v1/xorbs/default/{name}", b"hello, world", "a header that is none"),
        (f"/v1/xorbs/default/{name}", xorb_of(CONTENT[:3]), f"the xorb is not {name}"),
        ("/v1/xorbs/default/xyz", xorb_of(CONTENT), "64 hex digits"),
        ("/v1/shards", b"", "empty"),
        ("/v1/shards", b"hello" * 100, "no shard"),
    ):
        answer = send(live, home, path, body)
        assert (answer.status, words in answer.json["error"]) == (400, True), answer.body
    assert sorted(store.meta.rglob("tmp/*/tiny/*")) == before


def test_chunks_need_a_permit(live: Live, home: tuple[str, dict[str, str]]) -> None:
    """Without a permit, or to an upload that is over, nothing can be sent."""
    path = f"{home[0]}/v1/xorbs/default/{name_of(CONTENT)}"
    body = xorb_of(CONTENT)
    permit = home[1]["Authorization"]
    for said in (
        {},
        {"Authorization": permit[:-1] + "z"},
        {"Authorization": "Bearer 9-" + "0" * 64},
    ):
        assert live.ask(path, "POST", said, body).status == 401
    assert live.ask("/xet/tiny/none/v1/shards", "POST", home[1], body).status == 404
    assert live.ask("/xet/none/none/v1/shards", "POST", home[1], body).status == 404
    assert live.ask(f"{home[0]}/v1/chunks/default/{'0' * 64}", headers=home[1]).status == 404
    assert live.ask("/api/models/tiny/xet-write-token/main").status == 401


def test_a_xorb_of_one_upload_is_none_of_another(tmp_path: Path) -> None:
    """What was sent to one server's address means nothing at another's."""
    store = create(tmp_path / "tuned_models")
    begin_line(store, ModelName("tiny"))
    with serving(store, token=TOKEN) as first:
        told = first.ask("/api/models/tiny/xet-write-token/main", headers=AUTHORIZED).json
        path = told["casUrl"].removeprefix(first.url)
    said = {"Authorization": f"Bearer {told['accessToken']}"}
    with serving(store, token=TOKEN) as second:
        assert second.ask(f"{path}/v1/shards", "POST", said, b"x").status == 401
        assert second.ask(f"{path}/v1/shards", "POST", AUTHORIZED, b"x").status == 404

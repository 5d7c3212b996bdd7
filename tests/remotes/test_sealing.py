from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import pairwise

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.errors import IntegrityError, NewerFormatError, WrongKeyError
from modelstore.remotes.base import is_key
from modelstore.remotes.content import HeldContent
from modelstore.remotes.keyfile import KeyFile, Passphrase, unwrap
from modelstore.remotes.sealing import (
    CHUNK,
    PREFIX_SIZE,
    SealedValue,
    keys_of,
    open_name,
    padded_size,
    seal,
    seal_name,
    sealed_size,
)

KEYS = keys_of(bytes(32))
OTHER = keys_of(bytes(31) + b"\1")

names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,70}[A-Za-z0-9_-])?(/[a-z][0-9]{0,20}){0,4}\Z")
keys = names.map(str.strip).filter(is_key)


def unsealed(data: bytes, name: str = "v", step: int = 1 << 20) -> bytes:
    """Open ``data``, given in pieces of ``step`` bytes."""
    value = SealedValue(KEYS, name, data[:PREFIX_SIZE])
    rest = data[PREFIX_SIZE:]
    pieces: Iterator[bytes] = (rest[at : at + step] for at in range(0, len(rest), step))
    return b"".join(value.stream(pieces))


@given(st.binary(max_size=2000), keys, st.integers(1, 3000))
def test_values_come_back(data: bytes, name: str, step: int) -> None:
    """What was sealed opens to the same bytes, however it is cut on its way."""
    sealed = b"".join(seal(KEYS, name, HeldContent(data)))
    assert len(sealed) == sealed_size(len(data))
    assert unsealed(sealed, name, step) == data


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 7])
def test_chunks_come_back(size: int) -> None:
    """So do values of about a whole number of chunks."""
    data = bytes(range(251)) * (size // 251 + 1)
    sealed = b"".join(seal(KEYS, "v", HeldContent(data[:size])))
    assert len(sealed) == sealed_size(size)
    assert unsealed(sealed) == data[:size]


@given(st.binary(min_size=1, max_size=600), st.data())
@settings(max_examples=200)
def test_any_change_is_noticed(data: bytes, draw: st.DataObject) -> None:
    """A bit that is flipped, or bytes that are cut off or added, are an error of ours."""
    sealed = bytearray(b"".join(seal(KEYS, "v", HeldContent(data))))
    kind = draw.draw(st.sampled_from(["flip", "cut", "add"]))
    if kind == "flip":
        sealed[draw.draw(st.integers(0, len(sealed) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    elif kind == "cut":
        del sealed[draw.draw(st.integers(0, len(sealed) - 1)) :]
    else:
        sealed += draw.draw(st.binary(min_size=1, max_size=40))
    with pytest.raises((IntegrityError, WrongKeyError, NewerFormatError)):
        unsealed(bytes(sealed))


def test_the_same_value_is_never_sealed_alike() -> None:
    """Not even under the same name."""
    first, second = (b"".join(seal(KEYS, "v", HeldContent(b"x" * 100))) for _ in range(2))
    assert first[PREFIX_SIZE:] != second[PREFIX_SIZE:]


@given(keys)
def test_names_come_back(name: str) -> None:
    """A sealed name is a key, the same every time, and opens to the name."""
    sealed = seal_name(KEYS, name)
    assert is_key(sealed)
    assert sealed == sealed.lower() == seal_name(KEYS, name)
    assert open_name(KEYS, sealed) == name


@given(keys, keys)
def test_prefixes_stay_prefixes(parent: str, name: str) -> None:
    """What lies below a name lies below the sealed name."""
    whole = f"{parent}/{name}"
    if is_key(whole):
        assert seal_name(KEYS, whole).startswith(seal_name(KEYS, parent) + "/")


@given(keys, st.data())
def test_changed_names_are_noticed(name: str, draw: st.DataObject) -> None:
    """A letter that is changed, or another key, is noticed."""
    sealed = seal_name(KEYS, name)
    place = draw.draw(st.integers(0, len(sealed) - 1))
    letter = draw.draw(st.sampled_from("abcz279A/_"))
    changed = sealed[:place] + letter + sealed[place + 1 :]
    if changed != sealed:
        with pytest.raises(IntegrityError):
            open_name(KEYS, changed)
    with pytest.raises(IntegrityError):
        open_name(OTHER, sealed)


def test_equal_names_at_other_places_differ() -> None:
    """Nobody sees that two directories hold the same name."""
    assert seal_name(KEYS, "a/x").split("/")[1] != seal_name(KEYS, "b/x").split("/")[1]


@given(st.integers(0, 1 << 45))
def test_padding_is_little(size: int) -> None:
    """Padding never shrinks, costs at most 12 % above 256 bytes, and pads to itself."""
    padded = padded_size(size)
    assert padded >= max(size, 256)
    assert padded <= max(256, size * 1.12)
    assert padded_size(padded) == padded


def test_padding_is_that_of_padme() -> None:
    """The examples follow from the definition in section 4 of the paper."""
    assert [padded_size(size) for size in (0, 256, 257, 1000, 9 << 20, (9 << 20) + 1)] == [
        *(256, 256, 272, 1024, 9 << 20, (9 << 20) + (1 << 18)),
    ]
    assert all(padded_size(a) <= padded_size(b) for a, b in pairwise(range(200, 5000)))


# --- the format is pinned

GOLDEN_MASTER = bytes(range(32))
GOLDEN_NAME = (
    "a6hzphqjasp4y3t5bqjgnvqrlcs3aedu5vdtxj7zqm4qucoizdxa/6soj4techmeyzlris43fzv5ji3z3xjpheye"
    "xs6s73ppihro4733q"
)
GOLDEN_VALUE = (
    "4d535345414c0001907dd05db7b45786e60c98365cdf56eb6375a46c643bd16608b3cae514ef2e4d55fa5b68"
    "95e35bfd7c75dd98175bbe70c5ff6a2308b494348f03326f7b5b956a232aad130774cf2c0c3c21f8e3dd8843"
    "3b8717a3b257cc590f05f18459a719ca02616cd754d978796f8286cceb6c5307f83ac5f494a493a8ce2facdf"
    "597b0fafdd6f3a2a783b08190a2fcc5a51d9710232ac10d60d52aac64b352cb0383b81e375bfcf20e3a9ed1a"
    "11437a14deb49c03e8332467ccf4e0b81ab6da5916c40f199c81983d7bab1eb733008a47207e94ac3365818e"
    "664a9a870f476441d4636ef4ef98413a3012db7d4bc099ff7d0d11ccf24599d5fce0e7511324b5795bf1dc2d"
    "630b456881a15e4fd9cf44a92a269c4bca6120c5e958713c7800e2041a219fb59f250c19db44f0c24785b536"
    "aa990dbd4cd92640f767910c8af3c1cc129705439a9525817d3c85c7e9f870d18e34c714"
)
GOLDEN_PHRASE = (
    "{'check':'488b1e64e63904d6fc6f1c19e3607287','kdf':'scrypt','n':32768,'p':1,'r':8,'salt"
    "':'9f0d4e83a8764f37a405b7766b509d00ab10f171515fe693da440b4ed5268fa5','schema':'mstore/"
    "sealed/1','wrapped':'6eeb55d22584f3f66296b702bd5daf2748098ea3f81bdaecd1396ad1cf278ca94"
    "a677657099aae3098d270ffbafdb9ba82b9f33e7a72273b883eefe0'}"
)
GOLDEN_FILE = (
    "{'check':'a59698101092cae37fa4eb221eb1d7ee','kdf':'file','salt':'094e20b330551d391499c"
    "53148bec7af3044887f96d0a8ed6fb44fc19b2d58ff','schema':'mstore/sealed/1','wrapped':'70a"
    "e93e75e8ba4f354bb0e3a800e1b6d05c52b259f430b4d74cfe559cddfbd58f820ece77cd4fa79874bb2518"
    "c7087c50a1036f7a75f6826794fa0fe'}"
)


def test_what_was_sealed_once_opens_for_ever() -> None:
    """A name, a value and both kinds of sealed.json, written by the first mstore that sealed."""
    keys = keys_of(GOLDEN_MASTER)
    assert seal_name(keys, "refs/llama_1b") == GOLDEN_NAME
    data = bytes.fromhex(GOLDEN_VALUE)
    value = SealedValue(keys, "refs/llama_1b", data[:PREFIX_SIZE])
    assert b"".join(value.stream(iter((data[PREFIX_SIZE:],)))) == b"one version\n"
    for text, secret in [
        (GOLDEN_PHRASE, Passphrase("correct horse")),
        (GOLDEN_FILE, KeyFile(bytes(32))),
    ]:
        assert unwrap(text.replace("'", '"').encode(), secret) == GOLDEN_MASTER


def test_the_format_is_as_its_page_says() -> None:
    """The golden value opens by what docs/format.md says, with no code of ours."""

    def derived(purpose: str, secret: bytes, size: int = 32) -> bytes:
        context = f"mstore 2026-11 sealed remotes: {purpose}"
        return blake3(secret, derive_key_context=context).digest(length=size)

    data = bytes.fromhex(GOLDEN_VALUE)
    assert data[:8] == b"MSSEAL\0\1"
    assert data[8:16] == derived("id", GOLDEN_MASTER, 8)
    key = derived("value", derived("values", GOLDEN_MASTER) + data[:48] + b"refs/llama_1b")
    size = AESGCM(key).decrypt(bytes(12), data[48:72], None)
    assert int.from_bytes(size, "little") == 12
    whole = AESGCM(key).decrypt(bytes(10) + b"\1\1", data[72:], None)
    assert whole == b"one version\n".ljust(256, b"\0")
    cipher = AESSIV(derived("names", GOLDEN_MASTER, 64))
    first, second = (
        base64.b32decode(part.upper() + "=" * (-len(part) % 8)) for part in GOLDEN_NAME.split("/")
    )
    assert cipher.decrypt(first, [b""]).rstrip(b"\0") == b"refs"
    assert cipher.decrypt(second, [b"/refs"]).rstrip(b"\0") == b"llama_1b"

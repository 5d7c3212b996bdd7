"""Pickles that would run something: committed, compared, checked out and verified, never run."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.diff import diff
from modelstore.ops.read import load
from modelstore.ops.resolve import resolve
from modelstore.ops.verify import verify
from modelstore.store import Store
from modelstore.values import NumpyArrays
from tests.builders import pickled, pickled_call, pickled_tensor, torch_with_pickle
from tests.hostile.forged import MODEL
from tests.models import files_of

TENSOR = pickled_tensor("0", "F32", 4, (4,))


def payloads(canary: Path) -> Iterator[tuple[str, bytes]]:
    """Yield opcodes that create ``canary`` when they are run, or that fool some reader of pickles."""
    shell = f"touch {canary}"
    python = f"open({str(canary)!r}, 'w')"
    short = shell.encode()
    text = b"X" + struct.pack("<I", len(short)) + short
    yield "os.system", pickled_call("os", "system", shell)
    yield "posix.system", pickled_call("posix", "system", shell)
    yield "eval", pickled_call("builtins", "eval", python)
    yield "exec", pickled_call("builtins", "exec", python)
    yield "python 2 names", pickled_call("__builtin__", "eval", python)
    yield "subprocess", pickled_call("subprocess", "getoutput", shell)
    yield "pip", pickled_call("pip", "main", ["install", str(canary)])
    yield "runpy", pickled_call("runpy", "run_path", str(canary))
    yield "logging", pickled_call("logging", "FileHandler", str(canary))
    yield "numpy load", pickled_call("numpy", "load", str(canary))
    yield "torch.load", pickled_call("torch", "load", str(canary))
    yield "getattr", pickled_call("builtins", "getattr", b"cos\n\n", "system")
    yield "INST", b"(" + text + b"ios\nsystem\n"
    yield "OBJ", b"(" + b"cos\nsystem\n" + text + b"o"
    yield "NEWOBJ", b"cos\nsystem\n" + text + b"\x85\x81"
    yield "NEWOBJ_EX", b"cos\nsystem\n" + text + b"\x85}\x92"
    yield "STACK_GLOBAL", pickled("os") + pickled("system") + b"\x93" + text + b"\x85R"
    yield "STACK_GLOBAL by memo", pickled("os") + b"\x94" + b"h\0" + pickled("x") + b"\x93"
    yield "STACK_GLOBAL of numbers", pickled(1) + pickled(2) + b"\x93" + text + b"\x85R"
    yield "BUILD", b"ctypes\nSimpleNamespace\n)R" + pickled({"__setstate__": 1}) + b"b"
    yield "BUILD of slots", b"cos\nsystem\n" + pickled((None, {"a": 1})) + b"b"
    yield "EXT1", b"\x82\1" + text + b"\x85R"
    yield "EXT4", b"\x84\1\0\0\0" + text + b"\x85R"
    yield "nested", pickled_call("pickle", "loads", pickle.dumps(python).decode("latin-1"))
    yield "a persistent id", pickled(("storage", b"cos\nsystem\n", "0", "cpu", 4)) + b"Q"
    yield "a persistent id as text", b"P" + short + b"\n"
    yield "a storage that is called", pickled_call("torch", "FloatStorage", shell)
    yield (
        "a rebuild of a call",
        pickled_call("torch._utils", "_rebuild_tensor_v2", b"cos\nsystem\n"),
    )
    yield (
        "a hook",
        pickled_call("torch._utils", "_rebuild_parameter", TENSOR, True, b"cos\nsystem\n"),
    )
    yield "stopped first", b"N." + pickled_call("os", "system", shell)
    yield "no protocol", b"cos\nsystem\n(S'" + short + b"'\ntR"
    yield "broken after", pickled_call("os", "system", shell) + b"\xff\xff"
    yield "a dotted name", pickled_call("os", "path.os.system", shell)


def files_with(canary: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of files with each payload, in every container that torch had."""
    for number, (_, body) in enumerate(payloads(canary)):
        beside = b"\x80\x02" + b"}(" + pickled("w") + TENSOR + pickled("x") + body + b"u."
        data = bytes(range(16))
        yield f"{number}.bin", torch_with_pickle(beside, [data])
        bare = b"\x80\x02" + body + b"."
        yield f"{number}.pt", pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(1001) + bare
        yield f"{number}.pkl", bare + bare
        yield f"{number}.tar.pth", _tar(bare)
        yield f"{number}.deflated.pth", _deflated(bare)
    yield "7z.bin", b"7z\xbc\xaf\x27\x1c" + bytes(40)
    yield (
        "array.npy",
        b"\x93NUMPY\1\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,)}" + bare,
    )


def _tar(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("storages", "tensors", "pickle", "../pickle"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return out.getvalue()


def _deflated(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", bytes(16))
    return out.getvalue()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A directory of all of them."""
    directory = tmp_path / "in"
    directory.mkdir()
    for name, data in files_with(tmp_path / "canary"):
        (directory / name).write_bytes(data)
    return directory


def test_the_canary_would_sing(tmp_path: Path) -> None:
    """The payloads are real: unpickling one of them runs it."""
    canary = tmp_path / "canary"
    named = dict(payloads(canary))
    pickle.loads(b"\x80\x02" + named["STACK_GLOBAL"] + b".")
    assert canary.exists()


def test_no_verb_runs_a_pickle(store: Store, corpus: Path, tmp_path: Path) -> None:
    """The canary stays silent through every verb that reads them, and all bytes come back."""
    first = commit(store, corpus, MODEL, CommitOptions())
    before = files_of(corpus)
    for path in corpus.glob("*.bin"):
        path.write_bytes(path.read_bytes().replace(bytes(range(16)), bytes(range(1, 17))))
    second = commit(store, corpus, MODEL, CommitOptions())
    old, new = (resolve(store, f"m@{made.version}") for made in (first, second))
    found = diff(store, old, new)
    assert found.files
    for version, expected in ((old, before), (new, files_of(corpus))):
        assert not verify(store, version).problems
        out = checkout(store, version, output=tmp_path / f"out-{version.entry.version}").path
        assert files_of(out) == expected
    manifest = store.manifest(MODEL, new.entry)
    assert load(store, manifest, NumpyArrays(), ["0.bin"])["w"].size == 4
    assert sum(file.format == "torch" for file in manifest.files) > 10
    assert not (tmp_path / "canary").exists()

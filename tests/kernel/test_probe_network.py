"""One httpGet, tcpSocket or grpc probe against a server on loopback, from its launch to its answer."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import pathlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from podlab.kube.probes import FAILURE, SUCCESS
from podlab.runtime import probe
from support.grpc_answers import ANSWERS, GRPC_CORE, SETTINGS

pytestmark = pytest.mark.kernel
LOOPBACK = "127.0.0.1"
SECONDS = 10.0
Reply = Callable[[bytes], bytes]


def target_of(request: bytes) -> str:
    return request.split(b" ", 2)[1].decode()


@contextlib.contextmanager
def server(
    reply: Reply, context: ssl.SSLContext | None = None, pause: float = 0.0, keep: bool = False
) -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers each connection's first bytes. Yields its port and what it was asked.

    keep: it leaves a connection open until the other side closes it.
    """
    asked: list[bytes] = []
    listening = socket.create_server((LOOPBACK, 0))
    stop = threading.Event()

    def serve() -> None:
        while True:
            made, _ = listening.accept()
            with contextlib.suppress(OSError), made:
                if stop.is_set():
                    return
                with context.wrap_socket(made, server_side=True) if context else made as connection:
                    asked.append(connection.recv(65536))
                    stop.wait(pause)
                    connection.sendall(reply(asked[-1]))
                    while keep and connection.recv(65536):
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1], asked
    finally:
        stop.set()
        with contextlib.suppress(OSError):
            socket.create_connection(listening.getsockname()).close()
        thread.join(SECONDS)
        listening.close()


def ask(address: str = LOOPBACK, **spec: Any) -> probe.Answer:
    """Launch a probe and wait for its end."""
    spec = {"kind": "http", "host": "", "scheme": "HTTP", "path": "/", "headers": [], "timeout": 5, **spec}
    attempt = probe.launch(spec, address, lambda: pytest.fail("it is no exec probe"))
    poll = select.poll()
    poll.register(attempt.pidfd, select.POLLIN)
    assert poll.poll(SECONDS * 1000), "the probe does not end"
    answer, strays = probe.finish(attempt, spec, address)
    assert not strays
    return answer


def ask_grpc(port: int, timeout: int = 5, tls: bool = False) -> probe.Answer:
    return ask(kind="grpc", port=port, service="", timeout=timeout, tls=tls)


@pytest.mark.parametrize(("_case", "answer", "expected"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_grpc(_case: str, answer: bytes, expected: probe.Answer) -> None:
    with server(lambda _: answer) as (port, asked):
        assert ask_grpc(port) == expected
    assert asked[0].startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


CONNECT = 'timeout: failed to connect service "127.0.0.1:{}" within 1s: context deadline exceeded'
LATE = [
    ("a server that says nothing", b"", CONNECT),
    ("one that speaks something else", b"SSH-2.0-OpenSSH_9.2\r\n", CONNECT),
    ("one that does not answer the call", SETTINGS, "timeout: health rpc did not complete within 1s"),
]


@pytest.mark.parametrize(("said", "text"), [row[1:] for row in LATE], ids=[row[0] for row in LATE])
def test_grpc_in_time_or_not(said: bytes, text: str) -> None:
    """The kubelet goes on trying to connect until the time is up."""
    with server(lambda _: said, keep=True) as (port, _):
        assert ask_grpc(port, timeout=1) == (FAILURE, text.format(port))


def test_grpc_where_nobody_listens() -> None:
    with socket.create_server((LOOPBACK, 0)) as listening:
        port = listening.getsockname()[1]
    assert ask_grpc(port, timeout=1) == (FAILURE, CONNECT.format(port))


def test_grpc_of_a_server_that_hangs_up() -> None:
    with server(lambda _: SETTINGS) as (port, _):
        _, text = ask_grpc(port)
    assert text.startswith("error: health rpc probe failed: rpc error: code = ")


def responding(head: str) -> Reply:
    return lambda _: f"{head}\r\nContent-Length: 2\r\n\r\nok".encode()


REPLIES = [
    ("200", responding("HTTP/1.1 200 OK"), SUCCESS, ""),
    ("204", responding("HTTP/1.0 204 No Content"), SUCCESS, ""),
    ("404", responding("HTTP/1.1 404 Not Found"), FAILURE, "HTTP probe failed with statuscode: 404"),
    ("500", responding("HTTP/1.1 500 No"), FAILURE, "HTTP probe failed with statuscode: 500"),
    ("nothing", lambda _: b"", FAILURE, 'Get "http://{}/": EOF'),
    ("after hints", lambda _: b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", SUCCESS, ""),
    (
        "cut off",
        lambda _: b"HTTP/1.1 200 OK\r\nA: b\r\n",
        FAILURE,
        'Get "http://{}/": net/http: HTTP/1.x transport connection broken: unexpected EOF',
    ),
    ("no HTTP", lambda _: b"SSH-2.0\r\n\r\n", FAILURE, "Get \"http://{}/\": malformed HTTP response 'SSH-2.0'"),
    (
        "elsewhere",
        responding("HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/"),
        SUCCESS,
        "Probe terminated redirects",
    ),
]


@pytest.mark.parametrize(("_case", "reply", "outcome", "text"), REPLIES, ids=[row[0] for row in REPLIES])
def test_http(_case: str, reply: Reply, outcome: str, text: str) -> None:
    with server(reply) as (port, asked):
        assert ask(port=port) == (outcome, text.format(f"{LOOPBACK}:{port}"))
    assert asked == [
        f"GET / HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\n"
        "Connection: close\r\n\r\n".encode()
    ]


def test_redirects_are_followed() -> None:
    def reply(request: bytes) -> bytes:
        number = int(target_of(request).strip("/") or 0)
        return (
            f"HTTP/1.1 307 Go\r\nLocation: /{number + 1}\r\n\r\n".encode() if number < 5 else b"HTTP/1.1 200 OK\r\n\r\n"
        )

    with server(reply) as (port, asked):
        assert ask(port=port) == (SUCCESS, "")
    assert [target_of(each) for each in asked] == ["/", "/1", "/2", "/3", "/4", "/5"]


def test_a_circle_of_redirects_ends() -> None:
    with server(responding("HTTP/1.1 301 Moved\r\nLocation: /")) as (port, asked):
        assert ask(port=port) == (FAILURE, 'Get "/": stopped after 10 redirects')
    assert len(asked) == 10


def test_headers_and_host() -> None:
    with server(responding("HTTP/1.1 200 OK")) as (port, asked):
        headers = [{"name": "Host", "value": "web"}, {"name": "X-A", "value": "b"}]
        assert ask("192.0.2.1", port=port, host="localhost", headers=headers)[0] == SUCCESS
    assert b"\r\nHost: web\r\nX-A: b\r\n" in asked[0] and asked[0].count(b"Host:") == 1


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_nobody_listens(kind: str) -> None:
    with socket.socket() as held:
        # Bound, so that it is nobody else's, and nobody listens.
        held.bind((LOOPBACK, 0))
        port = held.getsockname()[1]
        before = os.listdir("/proc/self/fd")
        outcome, text = ask(kind=kind, port=port)
        assert os.listdir("/proc/self/fd") == before
    assert (outcome, text.endswith(f"dial tcp {LOOPBACK}:{port}: connect: connection refused")) == (FAILURE, True)


def test_a_name_that_is_none() -> None:
    outcome, text = ask(kind="tcp", port=1, host="no..name")
    assert (outcome, text) == (FAILURE, "dial tcp: lookup no..name: no such host")


def test_tcp() -> None:
    with server(responding("")) as (port, _):
        assert ask(kind="tcp", port=port) == (SUCCESS, "")


def test_its_time_is_all_it_has() -> None:
    began = time.monotonic()
    with server(responding("HTTP/1.1 200 OK"), pause=SECONDS) as (port, _):
        outcome, text = ask(port=port, timeout=1)
        took = time.monotonic() - began
    assert (outcome, text) == (
        FAILURE,
        f'Get "http://{LOOPBACK}:{port}/": context deadline exceeded (Client.Timeout exceeded)',
    )
    assert 1.0 <= took < SECONDS, "it has waited for the answer"


def test_a_response_without_an_end() -> None:
    """A head that never ends does not fill the memory, and is none."""
    with server(lambda _: b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * (1 << 18)) as (port, _):
        outcome, text = ask(port=port)
    assert (outcome, text.partition('": ')[2]) == (
        FAILURE,
        "net/http: server response headers exceeded 1048576 bytes; aborted",
    )


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's side with a certificate that nobody trusts, for another name, and expired."""
    directory: pathlib.Path = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elsewhere.example")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "server.pem").write_bytes(private + made.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    return context


def test_https_trusts_everybody(tls: ssl.SSLContext) -> None:
    with server(responding("HTTP/1.1 200 OK"), tls) as (port, asked):
        assert ask(port=port, scheme="HTTPS") == (SUCCESS, "")
    assert target_of(asked[0]) == "/"


def test_https_to_one_who_does_not_speak_it() -> None:
    with server(responding("HTTP/1.1 200 OK")) as (port, _):
        outcome, text = ask(port=port, scheme="HTTPS")
    assert outcome == FAILURE and text.startswith(f'Get "https://{LOOPBACK}:{port}/": ')


def test_grpc_by_tls_trusts_everybody(tls: ssl.SSLContext) -> None:
    """HTTP/2 is agreed on (ALPN), as grpc-go wants it."""
    tls.set_alpn_protocols(["h2"])
    with server(lambda _: GRPC_CORE, tls) as (port, asked):
        assert ask_grpc(port, tls=True) == (SUCCESS, "service healthy")
    assert asked[0].startswith(b"PRI * HTTP/2.0")


def test_a_hook_takes_any_answer_and_plain_http_where_it_asked_for_tls() -> None:
    """A probe takes neither. What authorizes is not sent in the clear."""
    headers = [{"name": "Authorization", "value": "secret"}, {"name": "X", "value": "y"}]
    with server(responding("HTTP/1.1 500 No")) as (port, asked):
        assert ask(port=port, hook=True) == (SUCCESS, "")
        assert ask(port=port, scheme="HTTPS", headers=headers, hook=True) == (SUCCESS, "")
        assert b"X: y" in asked[-1] and b"secret" not in asked[-1]
        assert ask(port=port, scheme="HTTPS")[0] == FAILURE

"""A grpc probe's call: what real servers answered, byte for byte, and what no server should."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.kube import hpack, probe_checks, probe_grpc, probespec
from podlab.kube.probes import FAILURE, SUCCESS
from support.grpc_answers import ANSWERS, GRPC_CORE, NGHTTP2, SETTINGS

SPEC = {"kind": "grpc", "port": 5000, "service": "", "timeout": 1, "tls": False}


def call(data: bytes, step: int = 0, **spec: Any) -> tuple[probe_grpc.Call, bytes]:
    """A call that has been told this, at once or in pieces, and what it has said after its hello."""
    made = probe_grpc.Call({**SPEC, **spec}, "10.0.0.1")
    said = b""
    for at in range(0, len(data), step or len(data) or 1):
        said += made.feed(data[at : at + (step or len(data))])
    return made, said


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize(("case", "data", "answer"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_what_real_servers_answer(case: str, data: bytes, answer: tuple[str, str], step: int) -> None:
    made, _ = call(data, step)
    assert made.connected and made.answer == answer


def test_what_is_asked() -> None:
    """The preface and SETTINGS first; the call when the server has said SETTINGS, which are acknowledged."""
    made, said = call(SETTINGS, service="web")
    assert made.hello().startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x06\x04")
    assert said.startswith(bytes.fromhex("000000040100000000"))
    headers, data = said[9:].split(b"\0\0\x0a\0\x01\0\0\0\x01")
    fields = dict(hpack.Decoder().decode(headers[9:]))
    assert fields[b":path"] == b"/grpc.health.v1.Health/Check" and fields[b":authority"] == b"10.0.0.1:5000"
    assert fields[b"user-agent"] == b"kube-probe/1.36" and fields[b"te"] == b"trailers"
    # Not compressed, five bytes: field 1, the name.
    assert data == b"\0\0\0\0\x05\x0a\x03web"
    assert made.feed(SETTINGS) == bytes.fromhex("000000040100000000")


def test_a_service_with_a_long_name_is_asked_in_frames_of_what_a_peer_must_take() -> None:
    _, said = call(SETTINGS, service="x" * 40000)
    lengths, rest = [], said
    while rest:
        length = int.from_bytes(rest[:3], "big")
        lengths.append((rest[3], length, rest[4] & 1))
        rest = rest[9 + length :]
    assert [row for row in lengths if row[0] == 0] == [(0, 16384, 0), (0, 16384, 0), (0, 7241, 1)]


def test_a_ping_is_answered() -> None:
    _, said = call(SETTINGS + bytes.fromhex("000008060000000000") + b"12345678")
    assert said.endswith(bytes.fromhex("000008060100000000") + b"12345678")


def frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def trailers(*fields: tuple[str, str], flags: int = 5) -> bytes:
    return frame(1, flags, b"".join(hpack.literal(*field) for field in fields))


OK = trailers(("grpc-status", "0"))
STATUS = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN", 9: "9"}
FAILED = "error: health rpc probe failed: rpc error: code = "
MADE = [
    *(
        (name, frame(0, 0, bytes([0, 0, 0, 0, 2, 8, number])) + OK, f'service unhealthy (responded with "{name}")')
        for number, name in STATUS.items()
    ),
    ("no field: 0", frame(0, 0, bytes(5)) + OK, 'service unhealthy (responded with "UNKNOWN")'),
    ("no message", OK, f"{FAILED}Internal desc = the server has sent no message that could be read"),
    ("reset", frame(3, 0, bytes(4)), f"{FAILED}Internal desc = stream terminated by RST_STREAM with error code: 0"),
    (
        "go away",
        frame(7, 0, bytes(7) + b"\x0b", stream=0),
        f"{FAILED}Unavailable desc = closing transport due to: received GOAWAY with error code 11",
    ),
    ("no gRPC", trailers((":status", "404")), "error: this server does not implement the grpc health protocol "
     "(grpc.health.v1.Health): unexpected HTTP status code received from server: 404"),
    ("a code that there is not", trailers(("grpc-status", "77")), f"{FAILED}Code(77) desc = "),
    ("percent", trailers(("grpc-status", "2"), ("grpc-message", "100%25 %zz")), f"{FAILED}Unknown desc = 100% %zz"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "text"), [row[1:] for row in MADE], ids=[row[0] for row in MADE])
def test_what_means_failure(data: bytes, text: str) -> None:
    assert call(SETTINGS + data)[0].answer == (FAILURE, text)


def test_padding_priority_and_continuation() -> None:
    block = hpack.literal("grpc-status", "0")
    data = frame(0, 8, b"\x02" + bytes([0, 0, 0, 0, 2, 8, 1]) + b"..")
    data += frame(1, 0x29, b"\x01" + bytes(5) + block[:4] + b".") + frame(9, 4, block[4:])
    assert call(SETTINGS + data)[0].answer == (SUCCESS, "service healthy")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n" + bytes(9),
        frame(1, 5, b"\x88"),
        SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        SETTINGS + frame(0, 8, b"\x09"),
        SETTINGS + b"".join(frame(0, 0, bytes(16384)) for _ in range(5)),
        SETTINGS + b"".join(frame(9, 0, bytes(16384)) for _ in range(5)),
    ],
)
def test_what_is_no_http2_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        call(data)


@given(st.binary(max_size=200), st.integers(0, 9), st.integers(0, 255))
def test_nonsense_is_an_error_or_nothing(payload: bytes, kind: int, flags: int) -> None:
    for data in (payload, SETTINGS + frame(kind, flags, payload)):
        try:
            made, _ = call(data)
        except ValueError:
            continue
        assert made.answer is None or made.answer[0] == FAILURE or b"\x08\x01" in payload


@pytest.mark.parametrize("transcript", [GRPC_CORE, NGHTTP2])
def test_no_part_of_an_answer_is_one(transcript: bytes) -> None:
    """Nothing is said of the container before all is there."""
    end = next(at for at in range(len(transcript) + 1) if call(transcript[:at])[0].answer)
    assert call(transcript[:end])[0].answer == (SUCCESS, "service healthy")


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "1s"), (60, "1m0s"), (90, "1m30s"), (3600, "1h0m0s"), (3661, "1h1m1s")]
)
def test_time_is_up(seconds: int, text: str) -> None:
    spec = {**SPEC, "timeout": seconds}
    assert probe_grpc.timed_out(spec, "10.0.0.1", True) == f"timeout: health rpc did not complete within {text}"
    assert probe_grpc.timed_out(spec, "fd00::1", False) == (
        f'timeout: failed to connect service "[fd00::1]:5000" within {text}: context deadline exceeded'
    )


# -- header fields: RFC 7541, appendix C ------------------------------------------------------------------------------

# C.4: requests, Huffman-coded. C.6: responses with a table of 256 bytes, of which fields fall out.
REQUESTS = (
    ("828684418cf1e3c2e5f23a6ba0ab90f4ff", {b":authority": b"www.example.com"}),
    ("828684be5886a8eb10649cbf", {b":authority": b"www.example.com", b"cache-control": b"no-cache"}),
    ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", {b":scheme": b"https", b"custom-key": b"custom-value"}),
)
RESPONSES = (
    (
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        {b":status": b"302", b"cache-control": b"private", b"location": b"https://www.example.com"},
    ),
    ("4883640effc1c0bf", {b":status": b"307", b"date": b"Mon, 21 Oct 2013 20:13:21 GMT"}),
)


@pytest.mark.parametrize("blocks", [REQUESTS, RESPONSES])
def test_header_fields_of_the_rfc(blocks: Any) -> None:
    decoder = hpack.Decoder()
    if blocks is RESPONSES:
        decoder.decode(bytes.fromhex("3fe101"))  # a table of 256 bytes
    for text, fields in blocks:
        found = dict(decoder.decode(bytes.fromhex(text)))
        assert fields.items() <= found.items()


@pytest.mark.parametrize(
    "block", ["80", "ff", "c6", "40", "4005", "3fffffff7f", "0085ffffffffff00", "0081ff00", "3fe2ff7f"]
)
def test_blocks_that_are_none(block: str) -> None:
    with pytest.raises(ValueError):
        hpack.Decoder().decode(bytes.fromhex(block))


@given(st.text(st.characters(codec="utf-8"), max_size=400))
def test_a_field_that_is_written_is_read(value: str) -> None:
    assert hpack.Decoder().decode(hpack.literal("name", value)) == [(b"name", value.encode())]


# -- the manifest -----------------------------------------------------------------------------------------------------


def test_the_manifests_probe() -> None:
    given = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
    container = {"name": "c", "livenessProbe": {**given, "grpc": {"port": 5000}}}
    made = probespec.probes(container)["liveness"]
    assert (made["kind"], made["port"], made["service"], made["tls"]) == ("grpc", 5000, "", False)
    assert list(probe_checks.probes(container, ())) == []
    container["livenessProbe"]["grpc"]["mode"] = "TLS"
    assert probespec.probes(container)["liveness"]["tls"]
    container["livenessProbe"]["grpc"] = {"port": 0}
    [finding] = probe_checks.probes(container, ())
    assert re.search("must be between 1 and 65535", finding.message)

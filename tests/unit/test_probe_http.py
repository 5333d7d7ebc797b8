"""What an httpGet probe sends and how it judges, without a network."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube import probe_http
from podlab.kube.probes import FAILURE, SUCCESS


def request(**changed: Any) -> probe_http.Request:
    spec = {"scheme": "HTTP", "host": "", "port": 80, "path": "/a/b?x=1", "headers": [], **changed}
    return probe_http.first(spec, "10.244.0.2")


def test_the_head() -> None:
    assert request().head() == (
        b"GET /a/b?x=1 HTTP/1.1\r\nHost: 10.244.0.2:80\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\n"
        b"Connection: close\r\n\r\n"
    )


HEADERS = [
    ("User-Agent", "me", ["Host: 10.244.0.2:80", "Accept: */*", "User-Agent: me"]),
    ("user-agent", "", ["Host: 10.244.0.2:80", "Accept: */*"]),
    ("Accept", "", ["Host: 10.244.0.2:80", "User-Agent: kube-probe/1.36"]),
    ("Host", "web", ["User-Agent: kube-probe/1.36", "Accept: */*", "Host: web"]),
    ("X-A", "b", ["Host: 10.244.0.2:80", "User-Agent: kube-probe/1.36", "Accept: */*", "X-A: b"]),
]


@pytest.mark.parametrize(("name", "value", "lines"), HEADERS)
def test_headers_of_the_manifest(name: str, value: str, lines: list[str]) -> None:
    made = request(headers=[{"name": name, "value": value}]).head().decode().split("\r\n")
    assert made == ["GET /a/b?x=1 HTTP/1.1", *lines, "Connection: close", "", ""]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("", "http://10.244.0.2:80/a/b?x=1"),
        ("fd00::2", "http://[fd00::2]:80/a/b?x=1"),
        ("web", "http://web:80/a/b?x=1"),
    ],
)
def test_the_url(host: str, expected: str) -> None:
    assert request(host=host).url == expected


CODES = [(199, FAILURE), (200, SUCCESS), (204, SUCCESS), (301, SUCCESS), (399, SUCCESS), (400, FAILURE), (500, FAILURE)]


@pytest.mark.parametrize(("code", "outcome"), CODES)
def test_codes(code: int, outcome: str) -> None:
    found, text = probe_http.judge(code)
    assert found == outcome
    assert ("statuscode" in text) == (outcome == FAILURE) and (text != "") == (not 200 <= code < 300)


RESPONSES = [
    (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody", (200, "")),
    (b"HTTP/1.0 404\n\nLocation: /no", (404, "")),
    (b"HTTP/1.1 302 Found\r\nlocation:  /x \r\n\r\n", (302, "/x")),
    (b"HTTP/1.1 200 \xff\xfe\r\n\r\n", (200, "")),
]


@pytest.mark.parametrize(("said", "expected"), RESPONSES)
def test_responses(said: bytes, expected: tuple[int, str]) -> None:
    assert probe_http.parse(said) == expected


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-x\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n", b"HTTP/1.1\r\n\r\n", "HTTP/1.1 ²²² x".encode(), b"\0"]
)
def test_what_is_no_http(said: bytes) -> None:
    with pytest.raises(ValueError, match="malformed HTTP response"):
        probe_http.parse(said)


REDIRECTS = [
    ("/x?y=2#part", "http://10.244.0.2:80/x?y=2"),
    ("x", "http://10.244.0.2:80/a/x"),
    ("?y", "http://10.244.0.2:80/a/b?y"),
    ("http://10.244.0.2/x", "http://10.244.0.2:80/x"),
    ("HTTPS://10.244.0.2:8443", "https://10.244.0.2:8443/"),
    ("//10.244.0.2:81/x", "http://10.244.0.2:81/x"),
    ("/a b\u00e9", "http://10.244.0.2:80/a%20b%C3%A9"),
]


@pytest.mark.parametrize(("location", "url"), REDIRECTS)
def test_redirects_within_the_host(location: str, url: str) -> None:
    following = probe_http.follow(request(), 302, location)
    assert isinstance(following, probe_http.Request)
    assert following.url == url


@pytest.mark.parametrize("location", ["http://other/x", "//10.244.0.3/", "", "http://10.244.0.2@evil/"])
def test_others_end_it(location: str) -> None:
    assert probe_http.follow(request(), 301, location) is None


def test_not_every_3xx_is_a_redirect() -> None:
    assert probe_http.follow(request(), 304, "/x") is None


def test_ten_requests_are_enough() -> None:
    at = request()
    for _ in range(9):
        following = probe_http.follow(at, 307, "/x")
        assert isinstance(following, probe_http.Request)
        at = following
    assert probe_http.follow(at, 307, "/x") == "stopped after 10 redirects"


def test_a_scheme_that_nobody_speaks() -> None:
    assert probe_http.follow(request(), 302, "gopher://10.244.0.2/") == 'unsupported protocol scheme "gopher"'

"""What an httpGet probe asks and what the answer means. Pure.

Sources: k8s pkg/probe/http/{http,request}.go, Go's net/http.
The pod supervisor imports this file, hence no import that costs memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .probes import FAILURE, SUCCESS

MAX_REDIRECTS = 10
HEAD_LIMIT = 1 << 20
USER_AGENT = "kube-probe/1.36"
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}


class Request(NamedTuple):
    """One GET. target: path and query. followed: how many redirects led here."""

    scheme: str
    host: str
    port: int
    target: str
    headers: tuple[tuple[str, str], ...]
    followed: int = 0

    @property
    def url(self) -> str:
        """As a person writes it."""
        return f"{self.scheme}://{authority(self.host, self.port)}{self.target}"

    def head(self) -> bytes:
        """The bytes of the request."""
        given = {name.lower() for name, _ in self.headers}
        fields = [("Host", authority(self.host, self.port)), ("User-Agent", USER_AGENT), ("Accept", "*/*")]
        # One that the manifest sets replaces ours; set to nothing it is left out.
        fields = [field for field in fields if field[0].lower() not in given]
        fields += [field for field in self.headers if field[1] or field[0].lower() not in ("user-agent", "accept")]
        lines = [f"GET {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "Connection: close"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


def authority(host: str, port: int) -> str:
    """host:port as Go writes it, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def first(spec: Mapping[str, Any], address: str) -> Request:
    """The request that a probe begins with. address: the pod's, for a probe without a host."""
    headers = tuple((header["name"], header["value"]) for header in spec["headers"])
    return Request(spec["scheme"].lower(), spec["host"] or address, spec["port"], spec["path"], headers)


def without_tls(request: Request) -> Request:
    """The same of a server that answers in plain HTTP: a hook, unlike a probe, takes that, but sends it no secrets."""
    headers = tuple(field for field in request.headers if field[0].lower() != "authorization")
    return request._replace(scheme="http", headers=headers)


def url(spec: Mapping[str, Any], address: str) -> str:
    """The URL of the probe's first request."""
    return first(spec, address).url


def whole(said: bytes) -> bytes:
    """The head of the response that began so, with the empty line; empty while it is not all there.

    Interim responses (1xx, such as Early Hints) before it are none; 101 is final.
    """
    ends = [at + len(end) for end in (b"\r\n\r\n", b"\n\n") for at in [said.find(end)] if at >= 0]
    if not ends:
        return b""
    head, code = said[: min(ends)], said[len("HTTP/1.1 ") :][:3]
    return whole(said[min(ends) :]) if code[:1] == b"1" and code != b"101" else head


def parse(said: bytes) -> tuple[int, str]:
    """(status code, Location or "") of a response's head. Raises ValueError when it is no HTTP."""
    text = said.decode("latin-1")
    lines = text.replace("\r\n", "\n").split("\n\n", 1)[0].split("\n")
    words = lines[0].split(" ", 2)
    code = words[1] if len(words) > 1 else ""
    if not words[0].startswith("HTTP/1.") or len(code) != 3 or not (code.isascii() and code.isdigit()):
        raise ValueError(f"malformed HTTP response {lines[0][:60]!r}")
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "location":
            return int(code), value.strip()
    return int(code), ""


def follow(request: Request, status: int, location: str) -> Request | str | None:
    """The request that a redirect leads to; None when the response is final; a text when there were too many."""
    if status not in _REDIRECTS or not location:
        return None
    scheme, rest = request.scheme, location.partition("#")[0]
    if "://" in rest:
        scheme, _, rest = rest.partition("://")
        scheme, rest = scheme.lower(), f"//{rest}"
    if scheme not in _PORTS:
        return f'unsupported protocol scheme "{scheme}"'
    host, port, target = request.host, request.port, rest
    if rest.startswith("//"):
        place, slash, path = rest[2:].partition("/")
        target = slash + path or "/"
        host, port = _split(place, _PORTS[scheme])
    elif rest.startswith("?"):
        target = request.target.partition("?")[0] + rest
    elif not rest.startswith("/"):
        target = request.target.partition("?")[0].rpartition("/")[0] + f"/{rest}"
    # Elsewhere nobody asks: that there was an answer is enough (judge says so).
    if host.lower() != request.host.lower():
        return None
    if request.followed + 1 >= MAX_REDIRECTS:
        return f"stopped after {MAX_REDIRECTS} redirects"
    target = "".join(letter if "!" <= letter <= "~" else "".join(_quoted(letter)) for letter in target)
    return Request(scheme, host, port, target, request.headers, request.followed + 1)


def _quoted(letter: str) -> list[str]:
    return [f"%{byte:02X}" for byte in letter.encode("utf-8")]


def _split(place: str, port: int) -> tuple[str, int]:
    """Host and port of an authority, without the user before an @."""
    place = place.rpartition("@")[2]
    host, colon, digits = place.rpartition(":")
    if colon and digits.isascii() and digits.isdigit() and int(digits) <= 65535:
        return host.strip("[]"), int(digits)
    return place.strip("[]"), port


def judge(status: int) -> tuple[str, str]:
    """What a final response means: a redirect to another host is a success with a warning."""
    if 200 <= status < 300:
        return SUCCESS, ""
    if 300 <= status < 400:
        return SUCCESS, "Probe terminated redirects"
    return FAILURE, f"HTTP probe failed with statuscode: {status}"

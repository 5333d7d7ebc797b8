"""The rules for a container's probes that the schema does not hold.

Source: k8s pkg/apis/core/v1/validation/validation.go (validateProbe, validateHandler). 0 is the default of everything.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import field_checks, names
from .probes import KINDS, READINESS
from .schema import Finding, Path, show

_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_SCHEMES = ("HTTP", "HTTPS")
_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_HEADER = re.compile(r"[-A-Za-z0-9]+")
_NOT_IN_A_HOST = re.compile(r"[^A-Za-z0-9._:-]")


def key(kind: str) -> str:
    """The container's field that holds a probe of this kind."""
    return f"{kind}Probe"


def probes(container: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Every rule for the probes of one container."""
    ports = [port["name"] for port in container.get("ports") or [] if port.get("name")]
    for kind in KINDS:
        probe = container.get(key(kind))
        if probe is not None:
            yield from _probe(kind, probe, ports, (*path, key(kind)))


def _probe(kind: str, probe: Mapping[str, Any], ports: Sequence[str], path: Path) -> Iterator[Finding]:
    given = [name for name in _HANDLERS if probe.get(name) is not None]
    if not given:
        yield Finding(path, "must say what to do", f"Add one of {', '.join(_HANDLERS)}")
    elif len(given) > 1:
        yield Finding(path, f"must do one thing, not {' and '.join(given)}")
    for name in _NUMBERS:
        yield from field_checks.at_least(probe, name, 0, path)
    if kind != READINESS and (probe.get("successThreshold") or 1) > 1:
        message = f"must be 1 in a {key(kind)}, not {probe['successThreshold']}"
        yield Finding((*path, "successThreshold"), message)
    if kind == READINESS and probe.get("terminationGracePeriodSeconds") is not None:
        message = "is only for livenessProbe and startupProbe: a readinessProbe ends nothing"
        yield Finding((*path, "terminationGracePeriodSeconds"), message, "Remove it")
    else:
        yield from field_checks.at_least(probe, "terminationGracePeriodSeconds", 1, path)
    yield from action(probe, ports, path)


def action(thing: Mapping[str, Any], ports: Sequence[str], path: Path) -> Iterator[Finding]:
    """The rules for what a probe or a lifecycle hook does. ports: names of the container's."""
    if thing.get("exec") is not None:
        yield from _exec(thing["exec"], (*path, "exec", "command"))
    if thing.get("httpGet") is not None:
        yield from _http(thing["httpGet"], ports, (*path, "httpGet"))
    if thing.get("tcpSocket") is not None:
        yield from _place(thing["tcpSocket"], ports, (*path, "tcpSocket"))
    if thing.get("grpc") is not None:
        yield from _place(thing["grpc"], ports, (*path, "grpc"))
        yield from field_checks.one_of(thing["grpc"], "mode", ("Plaintext", "TLS"), (*path, "grpc"))


def _exec(action: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    command = action.get("command") or []
    if not command:
        yield Finding(path, "must have at least one word")
    for index, word in enumerate(command):
        if "\0" in word:
            yield Finding((*path, index), "must not contain a NUL character, which no process can be given")


def _http(action: Mapping[str, Any], ports: Sequence[str], path: Path) -> Iterator[Finding]:
    yield from _place(action, ports, path)
    if action.get("scheme"):
        yield from field_checks.one_of(action, "scheme", _SCHEMES, path)
    if _has_control(action.get("path") or ""):
        yield Finding((*path, "path"), f"must not contain control characters, which {show(action['path'])} does")
    for index, header in enumerate(action.get("httpHeaders") or []):
        here = (*path, "httpHeaders", index)
        if "name" in header and not _HEADER.fullmatch(header["name"]):
            message = f"must be letters, digits and '-', such as X-Header-Name; it is {show(header['name'])}"
            yield Finding((*here, "name"), message)
        if _has_control(header.get("value") or ""):
            yield Finding((*here, "value"), f"must be one line of text, not {show(header['value'])}")


def _has_control(text: str) -> bool:
    return bool(re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text))


def _place(action: Mapping[str, Any], ports: Sequence[str], path: Path) -> Iterator[Finding]:
    port, host = action.get("port"), action.get("host")
    if isinstance(port, str):
        yield from _named_port(port, ports, (*path, "port"))
    elif isinstance(port, int) and not 1 <= port <= 65535:
        yield Finding((*path, "port"), f"must be between 1 and 65535, not {port}")
    if host and _NOT_IN_A_HOST.search(host):
        yield Finding((*path, "host"), f"must be a name or an IP address, not {show(host)}")


def _named_port(port: str, ports: Sequence[str], path: Path) -> Iterator[Finding]:
    fault = names.port_name_fault(port)
    if fault:
        remedy = f"Write it without quotes: {port}" if port.isdigit() else ""
        yield Finding(path, f"{fault}; it is {show(port)}", remedy)
    elif port not in ports:
        near = difflib.get_close_matches(port, ports, 1)
        remedy = f"Did you mean {near[0]}?" if near else "Add it to the container's ports, or give its number"
        yield Finding(path, f"there is no port {show(port)} in this container", remedy)

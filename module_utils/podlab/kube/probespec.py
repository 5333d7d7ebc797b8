"""From a container's probes, defaults set, to the configuration that the runtime runs them from. Pure."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any

from . import env
from .probe_checks import key
from .probes import KINDS

# What a URL's path and query may hold as they are: the manifest's own %-sequences, ? and & stay.
_SAFE = "/%?&=:@!$'()*+,;~-._[]"


def probes(container: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The container's probes by kind."""
    given = {kind: container.get(key(kind)) for kind in KINDS}
    return {kind: _probe(probe, container) for kind, probe in given.items() if probe is not None}


def _probe(probe: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **action(probe, container),
        "initial_delay": probe.get("initialDelaySeconds") or 0,
        "timeout": probe["timeoutSeconds"],
        "period": probe["periodSeconds"],
        "success": probe["successThreshold"],
        "failure": probe["failureThreshold"],
        "grace": probe.get("terminationGracePeriodSeconds"),
    }


def action(probe: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, Any]:
    """What a probe or a lifecycle hook does: `kind` and what runtime/probe.py needs of that kind."""
    if "exec" in probe:
        # ExpandContainerCommandOnlyStatic: by the values that the manifest itself gives.
        known = {entry["name"]: entry.get("value") or "" for entry in container.get("env") or []}
        return {"kind": "exec", "command": [env.expand(word, known) for word in probe["exec"]["command"]]}
    if "grpc" in probe:
        action = probe["grpc"]
        service, tls = action.get("service") or "", action.get("mode") == "TLS"
        return {"kind": "grpc", "port": action["port"], "service": service, "tls": tls}
    action = probe.get("httpGet") or probe["tcpSocket"]
    place = {"host": action.get("host") or "", "port": _port(action["port"], container)}
    if "tcpSocket" in probe:
        return {"kind": "tcp", **place}
    path = urllib.parse.quote(action["path"], safe=_SAFE)
    headers = [{"name": header["name"], "value": header["value"]} for header in action.get("httpHeaders") or []]
    return {
        "kind": "http",
        **place,
        "scheme": action["scheme"],
        "path": path if path.startswith("/") else f"/{path}",
        "headers": headers,
    }


def _port(port: int | str, container: Mapping[str, Any]) -> int:
    if isinstance(port, int):
        return port
    return next(int(own["containerPort"]) for own in container["ports"] if own.get("name") == port)

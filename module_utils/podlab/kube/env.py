"""A container's environment: order, precedence, Service variables and $(VAR) expansion.

Sources: k8s pkg/kubelet/kubelet_pods.go (makeEnvironmentVariables), pkg/kubelet/envvars, third_party/forked/golang/
expansion; containerd's buildLinuxSpec. The pod supervisor imports this file, hence no import that costs memory.

An entry of a configuration's `env` is {"name", "value", "source"} or {"name", "field", "source"}. The sources:
"image" (default PATH, HOSTNAME and the image's Env; never expanded, never seen by $(VAR)), "pod" (the manifest's env;
expanded), "field" (a value of the downward API; not expanded; "metadata" names one that may change), "service" (Service
variables). Of ConfigMaps and Secrets there are {"source": "from", "object", "prefix", "optional"}, all of one, and
{"source": "key", "name", "object", "key", "namespace", "optional"}; their values, which are not expanded either, are in
what sources.py makes.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import PodlabError
from . import payload

# containerd's WithTTY
TERMINAL = ("TERM", "xterm")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def expand(text: str, mapping: Mapping[str, str]) -> str:
    """Replace $(NAME) by its value; $$ is a plain $; an unknown $(NAME) stays as it is."""
    out = []
    at = 0
    while at < len(text):
        following = text[at + 1 : at + 2]
        if text[at] != "$" or following not in ("$", "("):
            out.append(text[at])
            at += 1
            continue
        if following == "$":
            out.append("$")
            at += 2
            continue
        end = text.find(")", at + 2)
        if end < 0:
            out.append("$(")
            at += 2
            continue
        name = text[at + 2 : end]
        out.append(mapping.get(name, f"$({name})"))
        at = end + 1
    return "".join(out)


def expand_known(text: str, mapping: Mapping[str, str]) -> tuple[str, list[str]]:
    """Replace $(NAME) by its value; the second part is the names that have none, or an empty one, sorted."""
    seen = _Seen(mapping)
    made = expand(text, seen)
    return made, sorted(name for name in seen.asked if not mapping.get(name))


class _Seen(dict[str, str]):
    """A mapping that remembers what it was asked for."""

    def __init__(self, mapping: Mapping[str, str]) -> None:
        super().__init__(mapping)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def whole(container: Mapping[str, Any], added: Mapping[str, str]) -> list[tuple[str, str]]:
    """The final environment of a container.

    container: an entry of the configuration's `containers`. added: what kubelet_env() gave.
    A name that comes again keeps its place and takes the new value, as the runtime does it.
    """
    return list({**_image_env(container), **added}.items())


def argv(container: Mapping[str, Any], added: Mapping[str, str]) -> list[str]:
    """The final argv of a container: $(VAR) of its `command` expanded by the pod's env and Service variables only."""
    return [expand(word, added) for word in container["command"]]


def kubelet_env(
    container: Mapping[str, Any], facts: Mapping[str, str], objects: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """What kubelet adds to the image's environment: envFrom, then env, then Service variables not yet set.

    facts: values of the fields that are known only now ("status.podIP", "status.podIPs").
    objects: the ConfigMaps and Secrets that there are (sources.of_pod).
    Raises PodlabError with the reason CreateContainerConfigError when one is missing that is not optional.
    """
    services = {entry["name"]: entry["value"] for entry in container["env"] if entry["source"] == "service"}
    own: dict[str, str] = {}
    for entry in container["env"]:
        if entry["source"] == "pod":
            own[entry["name"]] = expand(entry["value"], {**services, **own})
        elif entry["source"] == "field":
            own[entry["name"]] = _field(entry, facts, (objects or {}).get("metadata"))
        elif entry["source"] == "from":
            values = _values(entry, objects or {})
            own.update({entry["prefix"] + key: _text(entry, values[key]) for key in sorted(values)})
        elif entry["source"] == "key":
            own.update(_one_key(entry, objects or {}))
    for name, value in services.items():
        own.setdefault(name, value)
    return own


def _field(entry: Mapping[str, Any], facts: Mapping[str, str], metadata: Mapping[str, Any] | None) -> str:
    """A value of the downward API: as it is now when it may change, else as it was when the pod was made."""
    if metadata is not None and "metadata" in entry:
        return payload.field(entry["metadata"], metadata)
    return str(entry["value"]) if "value" in entry else facts[entry["field"]]


def _values(entry: Mapping[str, Any], objects: Mapping[str, Any]) -> Mapping[str, str]:
    """The data of the object that an entry names; nothing when it is missing and may be."""
    found = objects.get(entry["object"])
    if found is None and not entry["optional"]:
        kind, _, name = entry["object"].partition("/")
        raise PodlabError(f'{kind.lower()} "{name}" not found', reason="CreateContainerConfigError")
    data: Mapping[str, str] = (found or {}).get("data") or {}
    return data


def _one_key(entry: Mapping[str, Any], objects: Mapping[str, Any]) -> dict[str, str]:
    """The variable of one key; none when that may be missing."""
    values = _values(entry, objects)
    if entry["key"] in values:
        return {entry["name"]: _text(entry, values[entry["key"]])}
    if not entry["optional"]:
        kind, _, name = entry["object"].partition("/")
        text = f"couldn't find key {entry['key']} in {kind} {entry['namespace']}/{name}"
        raise PodlabError(text, reason="CreateContainerConfigError")
    return {}


def _text(entry: Mapping[str, Any], value: str) -> str:
    """A Secret's values are base64 of any bytes; an environment takes them as they are."""
    if entry["object"].startswith("Secret/"):
        return binascii.a2b_base64(value).decode("utf-8", "surrogateescape")
    return value


def _image_env(container: Mapping[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"] if entry["source"] == "image"}


def image_entries(image_env: Iterable[str], hostname: str, tty: bool = False) -> list[dict[str, str]]:
    """The entries below the manifest's: a default PATH if the image has none, HOSTNAME, then the image's Env.

    tty: TERM comes first, so that image and manifest may say another.
    """
    pairs = [text.partition("=")[::2] for text in image_env]
    base = [*([TERMINAL] if tty else []), ("HOSTNAME", hostname), *pairs]
    if not any(name == "PATH" for name, _ in pairs):
        base.insert(0, ("PATH", DEFAULT_PATH))
    return [{"name": name, "value": value, "source": "image"} for name, value in base]


def service_entries(
    services: Iterable[Mapping[str, Any]], namespace: str, enable_service_links: bool = True
) -> list[dict[str, str]]:
    """The Service variables of a pod: Services of its namespace with a ClusterIP, and default/kubernetes always."""
    seen: dict[str, Mapping[str, Any]] = {}
    for service in services:
        metadata = service["metadata"]
        if service["spec"].get("clusterIP") in (None, "", "None"):
            continue
        if metadata["namespace"] == namespace and enable_service_links:
            seen[metadata["name"]] = service
        elif (metadata["namespace"], metadata["name"]) == ("default", "kubernetes"):
            seen.setdefault("kubernetes", service)
    pairs = [pair for name in sorted(seen) for pair in _service_variables(seen[name])]
    return [{"name": name, "value": value, "source": "service"} for name, value in pairs]


def _service_variables(service: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The variables of one Service (envvars.go): host, ports, then the Docker link style."""
    prefix = _variable(service["metadata"]["name"])
    address = service["spec"]["clusterIP"]
    ports = service["spec"]["ports"]
    pairs = [(f"{prefix}_SERVICE_HOST", address), (f"{prefix}_SERVICE_PORT", str(ports[0]["port"]))]
    pairs += [(f"{prefix}_SERVICE_PORT_{_variable(p['name'])}", str(p["port"])) for p in ports if p.get("name")]
    for number, port in enumerate(ports):
        protocol = port.get("protocol", "TCP")
        host = f"[{address}]" if ":" in address else address
        url = f"{protocol.lower()}://{host}:{port['port']}"
        link = f"{prefix}_PORT_{port['port']}_{protocol.upper()}"
        if number == 0:
            pairs.append((f"{prefix}_PORT", url))
        pairs += [
            (link, url),
            (f"{link}_PROTO", protocol.lower()),
            (f"{link}_PORT", str(port["port"])),
            (f"{link}_ADDR", address),
        ]
    return pairs


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")

"""kind's cluster config from text to records: types, unknown fields, null items, as kind's own decoder has it.

Strings keep what was written (1.50 stays 1.50), so values are converted by the type of the field, not by their looks.
Source: kind's pkg/internal/apis/config/encoding and gopkg.in/yaml.v3 decode.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import PodlabError
from . import yamlparse, yamlscalar
from .kind_report import Report
from .kind_types import (
    API_VERSION,
    DEFAULT_SUBNETS,
    JSON6902,
    KIND,
    Config,
    ExtraMount,
    Networking,
    NodeConfig,
    PortMapping,
)
from .yamlparse import Node

Path = tuple[Any, ...]
INT32_LOWEST, INT32_HIGHEST = -(1 << 31), (1 << 31) - 1


class Bad(Exception):
    """A value that is not of its field's type: what it must be, and what it is."""


class Type(NamedTuple):
    """How a field's value is read. of: the type of items or values; fields: of a record, by name in the file."""

    kind: str  # scalar | list | map | record
    convert: Callable[[Node], Any] = lambda node: None
    of: Any = None
    record: Any = None
    fields: Mapping[str, tuple[str, Any]] = {}


def _described(node: Node) -> str:
    if node.kind != "scalar":
        return {"map": "a mapping", "list": "a list"}[node.kind]
    return repr(node.text) if not node.quoted else f"the text {node.text!r}"


def _string(node: Node) -> str:
    if node.kind != "scalar":
        raise Bad(f"must be text, not {_described(node)}")
    return "" if node.is_null else node.text


def _bool(node: Node) -> bool:
    words = yamlscalar.YES_WORDS | yamlscalar.NO_WORDS
    if node.kind == "scalar" and node.is_null:
        return False
    # A quoted "yes" is read as true, a quoted "true" is not: yaml.v3 falls back to YAML 1.1 for text only.
    if node.kind == "scalar" and (node.text in words or not node.quoted or node.tag == "bool"):
        value = yamlscalar.plain_value(node.text)
        if isinstance(value, bool):
            return value
    raise Bad(f"must be true or false, not {_described(node)}")


def _int32(node: Node) -> int:
    if node.kind == "scalar" and node.is_null:
        return 0
    value = yamlscalar.plain_value(node.text) if node.kind == "scalar" and not node.quoted else None
    if isinstance(value, float) and abs(value) < 1 << 63:
        value = int(value)  # yaml.v3 cuts the fraction off
    if isinstance(value, bool) or not isinstance(value, int):
        raise Bad(f"must be a number, not {_described(node)}")
    if not INT32_LOWEST <= value <= INT32_HIGHEST:
        raise Bad(f"must fit in 32 bits, unlike {node.text}")
    return value


def _one_of(*words: str, fold: bool = False) -> Callable[[Node], str]:
    def convert(node: Node) -> str:
        text = _string(node)
        text = text.upper() if fold else text
        if text not in ("", *words):
            raise Bad(f"must be {', '.join(words[:-1])} or {words[-1]}, not {node.text!r}")
        return text

    return convert


def _record(record: Any, **fields: tuple[str, Type]) -> Type:
    return Type("record", record=record, fields=fields)


def _networking(**said: Any) -> Networking:
    """The defaults that depend on the family; an unknown one gets IPv4's subnets: one error then, not three."""
    family = said.get("ip_family", "ipv4")
    pods, services = DEFAULT_SUBNETS.get(family, DEFAULT_SUBNETS["ipv4"])
    address = "::1" if family == "ipv6" else "127.0.0.1"
    return Networking(**{"pod_subnet": pods, "service_subnet": services, "api_server_address": address, **said})


STRING = Type("scalar", _string)
BOOL = Type("scalar", _bool)
INT32 = Type("scalar", _int32)
PROPAGATION = Type("scalar", _one_of("None", "HostToContainer", "Bidirectional"))
PROTOCOL = Type("scalar", _one_of("TCP", "UDP", "SCTP", fold=True))
STRINGS = Type("list", of=STRING)
PATCHES = Type(
    "list",
    of=_record(
        JSON6902,
        group=("group", STRING),
        version=("version", STRING),
        kind=("kind", STRING),
        patch=("patch", STRING),
    ),
)
MOUNT = _record(
    ExtraMount,
    containerPath=("container_path", STRING),
    hostPath=("host_path", STRING),
    readOnly=("read_only", BOOL),
    selinuxRelabel=("selinux_relabel", BOOL),
    propagation=("propagation", PROPAGATION),
)
PORT = _record(
    PortMapping,
    containerPort=("container_port", INT32),
    hostPort=("host_port", INT32),
    listenAddress=("listen_address", STRING),
    protocol=("protocol", PROTOCOL),
)
NODE = _record(
    NodeConfig,
    role=("role", STRING),
    image=("image", STRING),
    labels=("labels", Type("map", of=STRING)),
    extraMounts=("extra_mounts", Type("list", of=MOUNT)),
    extraPortMappings=("extra_port_mappings", Type("list", of=PORT)),
    kubeadmConfigPatches=("kubeadm_config_patches", STRINGS),
    kubeadmConfigPatchesJSON6902=("kubeadm_config_patches_json6902", PATCHES),
)
NETWORKING = _record(
    _networking,
    ipFamily=("ip_family", STRING),
    apiServerPort=("api_server_port", INT32),
    apiServerAddress=("api_server_address", STRING),
    podSubnet=("pod_subnet", STRING),
    serviceSubnet=("service_subnet", STRING),
    disableDefaultCNI=("disable_default_cni", BOOL),
    kubeProxyMode=("kube_proxy_mode", STRING),
    dnsSearch=("dns_search", STRINGS),
)
CONFIG = _record(
    Config,
    name=("name", STRING),
    nodes=("nodes", Type("list", of=NODE)),
    networking=("networking", NETWORKING),
    featureGates=("feature_gates", Type("map", of=BOOL)),
    runtimeConfig=("runtime_config", Type("map", of=STRING)),
    kubeadmConfigPatches=("kubeadm_config_patches", STRINGS),
    kubeadmConfigPatchesJSON6902=("kubeadm_config_patches_json6902", PATCHES),
    containerdConfigPatches=("containerd_config_patches", STRINGS),
    containerdConfigPatchesJSON6902=("containerd_config_patches_json6902", PATCHES),
)
# Where a field belongs that was written somewhere else.
HOMES = {
    **{name: "networking" for name in NETWORKING.fields},
    **{name: "an item of nodes" for name in ("role", "image", "labels", "extraMounts", "extraPortMappings")},
    **{name: "the top level" for name in ("nodes", "networking", "featureGates", "runtimeConfig")},
    **{name: "an item of extraMounts" for name in MOUNT.fields},
    **{name: "an item of extraPortMappings" for name in PORT.fields},
}


def first_document(text: str) -> tuple[str, bool]:
    """(the first YAML document, whether there is more). What follows is never looked at, as in kind."""
    lines = text.split("\n")
    begun = False
    for number, line in enumerate(lines):
        marker = re.match(r"(---|\.\.\.)(\s|$)", line)
        if marker and begun:
            return "\n".join(lines[:number]), any(rest.strip() not in ("", "---", "...") for rest in lines[number:])
        blank = not line.strip() or line.startswith(("#", "%", "\ufeff#"))
        begun = begun or bool(marker) or not blank
    return text, False


def parse(text: str, file: str) -> tuple[Config, Report]:
    """The config that the text says, with kind's defaults, and a report with what could not be read.

    The report's `readable` is False when the text is not a kind config at all; the config is the default one then.
    """
    report = Report(file)
    document, more = first_document(text)
    try:
        root = next(yamlparse.parse(document, file, 1, report.problems), None)
    except PodlabError as error:
        report.problems.extend(error.problems)
        root = None
        report.readable = False
        return Config(), report
    if not _is_kind_config(root, report):
        report.readable = False
        return Config(), report
    if more:
        report.warning((), "only the first YAML document is read, as kind does; there are more", "Remove the others")
    assert root is not None
    root.entries = [(key, value) for key, value in root.entries if key.text not in ("kind", "apiVersion")]
    config = _read(root, CONFIG, (), report)
    return config if config.nodes else config._replace(nodes=Config().nodes), report


def _is_kind_config(root: Node | None, report: Report) -> bool:
    """kind and apiVersion say what the rest means: when they are wrong nothing else is worth reading."""
    if root is not None and root.kind != "map" and not root.is_null:
        report.error((), f"must be a mapping, not {_described(root)}", f"Begin the file with: kind: {KIND}")
        return False
    entries = root.entries if root is not None else []
    found = {key.text: value for key, value in entries}
    for key, _value in entries:
        report.lines[(key.text,)] = key.line
    fine = True
    for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        value = found.get(name)
        text = value.text if value is not None and value.kind == "scalar" and not value.is_null else ""
        if text != wanted:
            about = f" for {API_VERSION}" if name == "kind" else ""
            has = repr(text) if text else "empty"
            report.error((name,), f"must be {wanted}{about}, not {has}", f"Write {name}: {wanted}")
            fine = False
    return fine


def _read(node: Node, type_: Type, path: Path, report: Report) -> Any:
    """The node's value; None when it could not be read or says nothing."""
    try:
        if type_.kind == "scalar":
            return type_.convert(node)
        if node.is_null:
            return None
        reader = {"list": _read_list, "map": _read_map, "record": _read_record}[type_.kind]
        return reader(node, type_, path, report)
    except Bad as bad:
        report.failed.add(path)
        report.error(path, str(bad))
        return None


def _read_list(node: Node, type_: Type, path: Path, report: Report) -> tuple[Any, ...]:
    if node.kind != "list":
        raise Bad(f"must be a list, not {_described(node)}")
    made: list[Any] = []
    for item in node.items:
        if item.is_null:
            continue  # yaml.v3 drops it
        here = (*path, len(made))
        report.lines[here] = item.line
        value = _read(item, type_.of, here, report)
        made.append(_empty(type_.of) if value is None else value)
    return tuple(made)


def _empty(type_: Type) -> Any:
    return type_.record() if type_.kind == "record" else ""


def _read_map(node: Node, type_: Type, path: Path, report: Report) -> dict[str, Any]:
    if node.kind != "map":
        raise Bad(f"must be a mapping, not {_described(node)}")
    made = {}
    for key, item in node.entries:
        if key.is_null:
            continue
        here = (*path, key.text)
        report.lines[here] = key.line
        value = _read(item, type_.of, here, report)
        if value is not None:
            made[key.text] = value
    return made


def _read_record(node: Node, type_: Type, path: Path, report: Report) -> Any:
    if node.kind != "map":
        raise Bad(f"must be a mapping, not {_described(node)}")
    made = {}
    for key, item in node.entries:
        if key.is_null:
            continue
        here = (*path, key.text)
        report.lines[here] = key.line
        if key.text not in type_.fields:
            report.failed.add(here)
            report.error(here, "unknown field", _meant(key.text, type_))
            continue
        name, of = type_.fields[key.text]
        value = _read(item, of, here, report)
        if value is not None and value != "":
            made[name] = value
    return type_.record(**made)


def _meant(name: str, type_: Type) -> str:
    import difflib

    folded = {known.lower(): known for known in type_.fields}
    if name.lower() in folded:
        return f"Write {folded[name.lower()]}: upper and lower case matter"
    near = difflib.get_close_matches(name, type_.fields, 1)
    if near:
        return f"Did you mean {near[0]}?"
    if name in HOMES:
        return f"It belongs in {HOMES[name]}"
    return f"Known here: {', '.join(type_.fields)}"

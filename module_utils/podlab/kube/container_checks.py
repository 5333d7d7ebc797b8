"""The rules for a container that the schema does not hold. Source: k8s pkg/apis/core/v1/validation/validation.go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import env_checks, field_checks, names, probe_checks, qos, quantity, volume_checks
from .schema import Finding, Path, show, walk

_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
PROTOCOLS = ("TCP", "UDP", "SCTP")


def container(thing: Mapping[str, Any], volumes: Sequence[Any], path: Path) -> Iterator[Finding]:
    """Every rule for one container. volumes: names of the pod's volumes."""
    yield from _image(thing, path)
    yield from field_checks.one_of(thing, "imagePullPolicy", _PULL_POLICIES, path)
    yield from field_checks.one_of(thing, "terminationMessagePolicy", _MESSAGE_POLICIES, path)
    for key in ("workingDir", "terminationMessagePath"):
        if thing.get(key):
            yield from field_checks.absolute(thing[key], (*path, key))
    for key in ("command", "args", "env"):
        for where, value in walk(thing.get(key), (*path, key)):
            if isinstance(value, str) and "\0" in value:
                yield Finding(where, "must not contain a NUL character, which no process can be given")
    yield from env_checks.env(thing, path)
    yield from _ports(thing.get("ports") or [], (*path, "ports"))
    yield from probe_checks.probes(thing, path)
    yield from _resources(thing.get("resources") or {}, (*path, "resources"))
    yield from volume_checks.mounts(thing, volumes, path)


def _image(thing: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    image = thing.get("image")
    if not image:
        yield Finding((*path, "image"), "is required and missing")
        return
    fault = names.image_fault(image)
    if fault:
        yield Finding((*path, "image"), f"{fault}; it is {show(image)}")


def _ports(ports: Sequence[Mapping[str, Any]], path: Path) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    taken: dict[tuple[Any, str], int] = {}
    for index, port in enumerate(ports):
        here = (*path, index)
        yield from port_number(port, "containerPort", here)
        yield from field_checks.one_of(port, "protocol", PROTOCOLS, here)
        yield from field_checks.named(port, "name", names.port_name_fault, here)
        name = port.get("name")
        if name:
            if name in seen:
                message = f"the port name {show(name)} is there twice, first at ports[{seen[name]}]"
                yield Finding((*here, "name"), message, "Give each its own name")
            seen.setdefault(name, index)
        key = (port.get("containerPort"), port.get("protocol") or "TCP")
        if key in taken and key[0]:
            message = f"port {key[0]}/{key[1]} is there twice, first at ports[{taken[key]}]"
            yield Finding((*here, "containerPort"), message, "Remove one of them", "warning")
        taken.setdefault(key, index)


def port_number(thing: Mapping[str, Any], key: str, path: Path) -> Iterator[Finding]:
    """The port at a key, when set, is one that exists."""
    value = thing.get(key)
    if isinstance(value, int) and not 1 <= value <= 65535:
        yield Finding((*path, key), f"must be between 1 and 65535, not {value}")


def _resources(resources: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    values: dict[str, dict[str, Any]] = {"limits": {}, "requests": {}}
    for kind, parsed in values.items():
        for name, text in (resources.get(kind) or {}).items():
            here = (*path, kind, name)
            faults = list(_resource(name, text, here))
            yield from faults
            if not any(fault.level == "error" for fault in faults):
                parsed[name] = quantity.parse(text)
    limits, requests = values["limits"], values["requests"]
    for name, request in requests.items():
        here = (*path, "requests", name)
        if name in limits and request > limits[name]:
            shown = f"{show(resources['requests'][name])} is more than the limit {show(resources['limits'][name])}"
            yield Finding(here, f"must not be larger than the limit: {shown}", "Raise the limit or lower the request")
        if name.startswith(qos.HUGEPAGES) and request != limits.get(name):
            yield Finding(here, "must be equal to the limit: huge pages cannot be promised beyond it")
    huge = [name for name in limits if name.startswith(qos.HUGEPAGES)]
    if huge and not {"cpu", "memory"} & {*limits, *requests}:
        yield Finding((*path, "limits", huge[0]), "huge pages need a request or limit of cpu or memory beside them")


def _resource(name: str, text: Any, path: Path) -> Iterator[Finding]:
    if name.startswith(qos.HUGEPAGES):
        page = name[len(qos.HUGEPAGES) :]
        try:
            number = quantity.whole(page)
        except ValueError:
            number = 0
        if number <= 0 or number & (number - 1):
            yield Finding(path, f"must name a page size such as hugepages-2Mi, not {show(page)}")
            return
        faults = list(field_checks.size(text, path))
        yield from faults
        if not faults and quantity.parse(text) % number:
            yield Finding(path, f"must be a multiple of the page size {page}, which {show(text)} is not")
        return
    faults = list(field_checks.size(text, path))
    yield from faults
    if faults:
        return
    exact = quantity.parse(text)
    if name == "cpu" and (exact * 1000).denominator != 1:
        yield Finding(path, f"must not be finer than 1m, which {show(text)} is")
    if name == "memory" and exact.denominator != 1:
        message = f"is a fraction of a byte: {show(text)}"
        remedy = f"Did you mean {text[:-1]}Mi?" if isinstance(text, str) and text.endswith("m") else ""
        yield Finding(path, message, remedy, "warning")

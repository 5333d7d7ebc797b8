"""The rules for a pod that the schema does not hold. Source: k8s pkg/apis/core/v1/validation/validation.go."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from . import (
    container_checks,
    env_checks,
    lifecycle_checks,
    names,
    namespace_checks,
    priorities,
    security_checks,
    volume_checks,
)
from .field_checks import at_least, labels, named, one_of, unique
from .schema import Finding, Path, show

RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_TOLERATION_OPERATORS = ("Exists", "Equal")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_MAX_NAMESERVERS = 3
_MAX_SEARCHES = 32
_MAX_SEARCH_CHARACTERS = 2048


def pod_spec(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Every rule for a pod's spec. path: where the spec is in its object."""
    containers = spec.get("containers") or []
    volumes = spec.get("volumes") or []
    if not containers:
        yield Finding((*path, "containers"), "must have at least one container")
    yield from one_of(spec, "restartPolicy", RESTART_POLICIES, path)
    yield from one_of(spec, "dnsPolicy", _DNS_POLICIES, path)
    yield from at_least(spec, "terminationGracePeriodSeconds", 0, path)
    yield from named(spec, "nodeName", names.subdomain_fault, path)
    yield from named(spec, "hostname", names.label_fault, path)
    yield from named(spec, "subdomain", names.label_fault, path)
    yield from named(spec, "serviceAccountName", names.subdomain_fault, path)
    yield from labels(spec.get("nodeSelector") or {}, (*path, "nodeSelector"))
    for index, toleration in enumerate(spec.get("tolerations") or []):
        yield from _toleration(toleration, (*path, "tolerations", index))
    for index, alias in enumerate(spec.get("hostAliases") or []):
        yield from _host_alias(alias, (*path, "hostAliases", index))
    yield from _dns_config(spec, path)
    yield from namespace_checks.namespaces(spec, path)
    yield from security_checks.pod_spec(spec, path)
    yield from priorities.check(spec, path)
    yield from unique(volumes, "name", "volume", (*path, "volumes"))
    yield from volume_checks.volumes(spec, path)
    yield from lifecycle_checks.pod(spec, path)
    yield from env_checks.containers_named(spec, path)
    known = [volume.get("name") for volume in volumes]
    for key in ("initContainers", "containers"):
        these = spec.get(key) or []
        yield from unique(these, "name", "container", (*path, key))
        for index, container in enumerate(these):
            yield from container_checks.container(container, known, (*path, key, index))
            yield from lifecycle_checks.container(container, spec, (*path, key, index))


def _toleration(toleration: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    yield from one_of(toleration, "operator", _TOLERATION_OPERATORS, path)
    yield from one_of(toleration, "effect", ("", *EFFECTS), path)
    yield from named(toleration, "key", names.key_fault, path)
    yield from named(toleration, "value", names.label_value_fault, path)
    operator = toleration.get("operator") or "Equal"
    if not toleration.get("key") and operator != "Exists":
        yield Finding((*path, "operator"), "must be Exists when there is no key")
    if operator == "Exists" and toleration.get("value"):
        yield Finding((*path, "value"), "must be left out when operator is Exists")
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        yield Finding((*path, "tolerationSeconds"), "is only for the effect NoExecute")


def _host_alias(alias: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    yield from named(alias, "ip", names.ip_fault, path)
    for index, host in enumerate(alias.get("hostnames") or []):
        fault = names.subdomain_fault(host)
        if fault:
            yield Finding((*path, "hostnames", index), f"{fault}; it is {show(host)}")


def _search_fault(domain: str) -> str:
    text = domain.rstrip(".") if domain != "." else "x"
    return names.subdomain_fault(text.replace("_", "-"))


def _dns_config(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    config = spec.get("dnsConfig") or {}
    servers = config.get("nameservers") or []
    searches = config.get("searches") or []
    here = (*path, "dnsConfig")
    if spec.get("dnsPolicy") == "None" and not servers:
        yield Finding((*here, "nameservers"), "must have at least one entry when dnsPolicy is None")
    if len(servers) > _MAX_NAMESERVERS:
        yield Finding((*here, "nameservers"), f"must have at most {_MAX_NAMESERVERS} entries, not {len(servers)}")
    if len(searches) > _MAX_SEARCHES or len(" ".join(searches)) > _MAX_SEARCH_CHARACTERS:
        limit = f"at most {_MAX_SEARCHES} entries of {_MAX_SEARCH_CHARACTERS} characters together"
        yield Finding((*here, "searches"), f"must have {limit}")
    for key, entries, fault_of in (("nameservers", servers, names.ip_fault), ("searches", searches, _search_fault)):
        for index, entry in enumerate(entries):
            if fault_of(entry):
                yield Finding((*here, key, index), f"{fault_of(entry)}; it is {show(entry)}")
    for index, option in enumerate(config.get("options") or []):
        for key in ("name", "value"):
            text = option.get(key) or ""
            if re.search(r"[\s\x00]", text) or (key == "name" and not text):
                yield Finding((*here, "options", index, key), f"must be one word, not {show(text)}")

"""What podlab does with which field, as one table; everything else that a manifest sets is an error by name.

A leaf of the table is YES (any value that Kubernetes allows), or only(...) the values that mean what podlab does
anyway: those that a manifest may spell out. A map of the table is a mapping of the manifest, a list of one entry is
a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from . import priorities, refused
from .schema import Finding, Path, show

YES = object()


class Only(NamedTuple):
    """The values that are accepted because they change nothing."""

    values: tuple[Any, ...]


def only(*values: Any) -> Only:
    """Shorthand for the table."""
    return Only(values)


# What the API server sets itself and takes from nobody: objects that kubectl has read from a cluster have it.
SERVER_SET = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
_METADATA = {"name": YES, "namespace": YES, "labels": YES, "annotations": YES}
_TEMPLATE_METADATA = {"labels": YES, "annotations": YES}
_SELECTOR = {"matchLabels": YES, "matchExpressions": YES}

_RESOURCE_NAMES = {"cpu": YES, "memory": YES}  # and hugepages-*

_SECCOMP = {"type": YES, "localhostProfile": YES}

_CONTAINER_SECURITY = {
    "runAsUser": YES,
    "runAsGroup": YES,
    "runAsNonRoot": YES,
    "readOnlyRootFilesystem": YES,
    "allowPrivilegeEscalation": YES,
    "privileged": YES,
    "procMount": YES,
    "capabilities": {"add": YES, "drop": YES},
    "seccompProfile": _SECCOMP,
}

_PROBE = {
    "exec": {"command": YES},
    "httpGet": {"path": YES, "port": YES, "host": YES, "scheme": YES, "httpHeaders": [{"name": YES, "value": YES}]},
    "tcpSocket": {"port": YES, "host": YES},
    "grpc": {"port": YES, "service": YES, "mode": YES},
    "initialDelaySeconds": YES,
    "timeoutSeconds": YES,
    "periodSeconds": YES,
    "successThreshold": YES,
    "failureThreshold": YES,
    "terminationGracePeriodSeconds": YES,
}

_RESOURCE_FIELD = {"containerName": YES, "resource": YES, "divisor": YES}
_KEY = {"name": YES, "key": YES, "optional": YES}
_VALUE_FROM = {
    "fieldRef": {"fieldPath": YES, "apiVersion": only("v1")},
    "resourceFieldRef": _RESOURCE_FIELD,
    "configMapKeyRef": _KEY,
    "secretKeyRef": _KEY,
}

_HOOK = {"exec": _PROBE["exec"], "httpGet": _PROBE["httpGet"], "tcpSocket": YES, "sleep": {"seconds": YES}}
_ITEM = {"key": YES, "path": YES, "mode": YES}
_DOWNWARD_ITEM = {
    "path": YES,
    "mode": YES,
    "fieldRef": {"fieldPath": YES, "apiVersion": only("v1")},
    "resourceFieldRef": _RESOURCE_FIELD,
}

_CONTAINER = {
    "name": YES,
    "image": YES,
    "imagePullPolicy": YES,
    "command": YES,
    "args": YES,
    "workingDir": YES,
    "env": [{"name": YES, "value": YES, "valueFrom": _VALUE_FROM}],
    "envFrom": [
        {
            "prefix": YES,
            "configMapRef": {"name": YES, "optional": YES},
            "secretRef": {"name": YES, "optional": YES},
        }
    ],
    "ports": [{"containerPort": YES, "name": YES, "protocol": YES, "hostPort": YES, "hostIP": YES}],
    "readinessProbe": _PROBE,
    "livenessProbe": _PROBE,
    "startupProbe": _PROBE,
    "lifecycle": {"postStart": _HOOK, "preStop": _HOOK, "stopSignal": YES},
    "restartPolicy": YES,
    "restartPolicyRules": [{"action": YES, "exitCodes": {"operator": YES, "values": YES}}],
    "resources": {"limits": _RESOURCE_NAMES, "requests": _RESOURCE_NAMES},
    "volumeMounts": [
        {
            "name": YES,
            "mountPath": YES,
            "readOnly": YES,
            "mountPropagation": YES,
            "recursiveReadOnly": YES,
            "subPath": YES,
            "subPathExpr": YES,
        }
    ],
    "terminationMessagePath": YES,
    "terminationMessagePolicy": YES,
    "securityContext": _CONTAINER_SECURITY,
    "stdin": YES,
    "stdinOnce": YES,
    "tty": YES,
}

POD_SPEC = {
    "initContainers": [_CONTAINER],
    "containers": [_CONTAINER],
    "activeDeadlineSeconds": YES,
    "restartPolicy": YES,
    "terminationGracePeriodSeconds": YES,
    "nodeName": YES,
    "nodeSelector": YES,
    "tolerations": YES,
    "hostname": YES,
    "subdomain": YES,
    "shareProcessNamespace": YES,
    "volumes": [
        {
            "name": YES,
            "emptyDir": {"medium": YES, "sizeLimit": YES},
            "hostPath": {"path": YES, "type": YES},
            "configMap": {"name": YES, "defaultMode": YES, "optional": YES, "items": [_ITEM]},
            "secret": {"secretName": YES, "defaultMode": YES, "optional": YES, "items": [_ITEM]},
            "downwardAPI": {"defaultMode": YES, "items": [_DOWNWARD_ITEM]},
            "projected": {
                "defaultMode": YES,
                "sources": [
                    {
                        "configMap": {"name": YES, "optional": YES, "items": [_ITEM]},
                        "secret": {"name": YES, "optional": YES, "items": [_ITEM]},
                        "downwardAPI": {"items": [_DOWNWARD_ITEM]},
                    }
                ],
            },
        },
    ],
    "enableServiceLinks": YES,
    "readinessGates": [{"conditionType": YES}],
    "dnsPolicy": YES,
    "dnsConfig": {"nameservers": YES, "searches": YES, "options": YES},
    "hostAliases": YES,
    "automountServiceAccountToken": only(False),
    "serviceAccountName": YES,
    "serviceAccount": YES,
    "securityContext": {
        "runAsUser": YES,
        "runAsGroup": YES,
        "runAsNonRoot": YES,
        "sysctls": [{"name": YES, "value": YES}],
        "fsGroup": YES,
        "fsGroupChangePolicy": YES,
        "supplementalGroups": YES,
        "supplementalGroupsPolicy": YES,
        "seccompProfile": _SECCOMP,
    },
    "hostNetwork": YES,
    "hostPID": YES,
    "hostIPC": YES,
    "hostUsers": YES,
    "setHostnameAsFQDN": YES,
    "hostnameOverride": YES,
    "os": {"name": only("linux")},
    "schedulerName": only("default-scheduler"),
    "preemptionPolicy": only("PreemptLowerPriority"),
    "priority": only(*priorities.CLASSES.values()),
    "priorityClassName": only(*priorities.CLASSES),
}

_TEMPLATE = {"metadata": _TEMPLATE_METADATA, "spec": POD_SPEC}

_JOB_SPEC = {
    "template": _TEMPLATE,
    "parallelism": YES,
    "completions": YES,
    "backoffLimit": YES,
    "backoffLimitPerIndex": YES,
    "maxFailedIndexes": YES,
    "activeDeadlineSeconds": YES,
    "ttlSecondsAfterFinished": YES,
    "completionMode": YES,
    "suspend": YES,
    # What the API server generates: it says what is so anyway.
    "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": YES}},
    "manualSelector": only(False),
    "managedBy": only("kubernetes.io/job-controller"),
    "podReplacementPolicy": YES,
    "podFailurePolicy": {
        "rules": [
            {
                "action": YES,
                "onExitCodes": {"containerName": YES, "operator": YES, "values": YES},
                "onPodConditions": [{"type": YES, "status": YES}],
            }
        ]
    },
    "successPolicy": {"rules": [{"succeededIndexes": YES, "succeededCount": YES}]},
}

_SERVICE_SPEC = {
    "type": YES,
    "selector": YES,
    "clusterIP": YES,
    "clusterIPs": YES,
    "externalIPs": YES,
    "externalName": YES,
    "ports": [{"name": YES, "port": YES, "targetPort": YES, "protocol": YES, "appProtocol": YES, "nodePort": YES}],
    "sessionAffinity": YES,
    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": YES}},
    "externalTrafficPolicy": YES,
    "internalTrafficPolicy": YES,
    "trafficDistribution": YES,
    "healthCheckNodePort": YES,
    "allocateLoadBalancerNodePorts": YES,
    "loadBalancerClass": YES,
    "loadBalancerSourceRanges": YES,
    "publishNotReadyAddresses": YES,
    "ipFamilies": only(["IPv4"]),
    # A cluster of one family gives one address to a Service that prefers two.
    "ipFamilyPolicy": only("SingleStack", "PreferDualStack"),
}

SPECS: Mapping[str, Any] = {
    "Pod": POD_SPEC,
    "Deployment": {
        "replicas": YES,
        "selector": _SELECTOR,
        "template": _TEMPLATE,
        "strategy": {
            "type": only("RollingUpdate"),
            "rollingUpdate": {"maxSurge": only("25%"), "maxUnavailable": only("25%")},
        },
        "revisionHistoryLimit": only(10),
        "progressDeadlineSeconds": only(600),
        "minReadySeconds": only(0),
        "paused": only(False),
    },
    "ReplicaSet": {"replicas": YES, "selector": _SELECTOR, "template": _TEMPLATE, "minReadySeconds": only(0)},
    "DaemonSet": {
        "selector": _SELECTOR,
        "template": _TEMPLATE,
        "updateStrategy": {
            "type": only("RollingUpdate"),
            "rollingUpdate": {"maxSurge": only(0), "maxUnavailable": only(1)},
        },
        "revisionHistoryLimit": only(10),
        "minReadySeconds": only(0),
    },
    "StatefulSet": {
        "replicas": YES,
        "selector": _SELECTOR,
        "template": _TEMPLATE,
        "serviceName": YES,
        "podManagementPolicy": YES,
        "updateStrategy": {"type": only("RollingUpdate"), "rollingUpdate": {"partition": only(0)}},
        "revisionHistoryLimit": only(10),
        "minReadySeconds": only(0),
    },
    "Job": _JOB_SPEC,
    "Service": _SERVICE_SPEC,
    "Namespace": {"finalizers": only(["kubernetes"])},
}

# The kinds whose fields are not in a spec.
FIELDS: Mapping[str, Any] = {
    "EndpointSlice": {
        "addressType": YES,
        "endpoints": [
            {
                "addresses": YES,
                "conditions": {"ready": YES, "serving": YES, "terminating": YES},
                "hostname": YES,
                "nodeName": YES,
                "zone": YES,
                "hints": {"forZones": [{"name": YES}], "forNodes": [{"name": YES}]},
                "targetRef": YES,
            }
        ],
        "ports": [{"name": YES, "port": YES, "protocol": YES, "appProtocol": YES}],
    },
    "ConfigMap": {"data": YES, "binaryData": YES, "immutable": YES},
    "Secret": {"data": YES, "stringData": YES, "type": YES, "immutable": YES},
}

# Kubernetes ignores what a manifest says of these, so podlab does as well; but see service_rules.ingress.
_IGNORED = ("apiVersion", "kind", "status")


def unsupported(thing: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything that the object sets and podlab does not do, one finding for each field."""
    kind = thing["kind"]
    for key, value in thing.items():
        if key == "metadata":
            yield from _beyond(value, _METADATA, ("metadata",))
        elif key == "spec" and kind in SPECS:
            yield from _beyond(value, SPECS[kind], ("spec",))
        elif key in FIELDS.get(kind, {}):
            yield from _beyond(value, FIELDS[kind][key], (key,))
        elif key not in _IGNORED:
            yield _refusal((key,))


def _beyond(value: Any, known: Any, path: Path) -> Iterator[Finding]:
    if known is YES:
        return
    if isinstance(known, Only):
        if value not in known.values or isinstance(value, bool) is not isinstance(known.values[0], bool):
            yield _wrong_value(path, value, known)
    elif isinstance(known, list):
        for index, item in enumerate(value if isinstance(value, list) else ()):
            yield from _beyond(item, known[0], (*path, index))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key in known:
                yield from _beyond(inner, known[key], (*path, key))
            elif not _is_nothing(inner) and not (known is _RESOURCE_NAMES and key.startswith("hugepages-")):
                yield _refusal((*path, key))


def _is_nothing(value: Any) -> bool:
    """An empty list or mapping of a field says the same as its absence."""
    return value in ([], {})


def _refusal(path: Path) -> Finding:
    known = refused.reason(path)
    if known:
        return Finding(path, f"podlab does not support it: {known.why}", known.remedy)
    return Finding(path, "podlab does not support it yet", "Remove it")


def _wrong_value(path: Path, value: Any, known: Only) -> Finding:
    if known.values[0] in (False, "", 0):
        return _refusal(path)
    given, allowed = (str(each) if isinstance(each, list) else show(each) for each in (value, known.values[0]))
    return Finding(path, f"podlab does not support {given} yet, only {allowed}", "Remove it")

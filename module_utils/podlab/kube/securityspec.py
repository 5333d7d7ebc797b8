"""What a container may do: the part of its runtime configuration that its security contexts make. Pure.

Sources: k8s pkg/securitycontext, pkg/kubelet/kuberuntime/security_context*.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import capabilities

_UNCONFINED = {"type": "Unconfined"}
# Of every sandbox, whatever its containers have.
SANDBOX_SECCOMP = {"type": "RuntimeDefault"}


def security(
    container: Mapping[str, Any], pod: Mapping[str, Any], image: Mapping[str, Any], seccomp_default: bool = False
) -> dict[str, Any]:
    """Keys of a container's runtime config.

    image: its image's config. seccomp_default: whether without a profile it has RuntimeDefault.
    A setting of the container beats the pod's.
    """
    pod_context = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}
    context = {**pod_context, **{key: value for key, value in own.items() if value is not None}}
    privileged = bool(context.get("privileged"))
    return {
        "user": _user(context, image, pod_context),
        "caps": list(capabilities.ALL) if privileged else capabilities.effective(context.get("capabilities") or {}),
        "no_new_privs": context.get("allowPrivilegeEscalation") is False,
        "privileged": privileged,
        "masked": not privileged and context.get("procMount") != "Unmasked",
        "readonly_root": bool(context.get("readOnlyRootFilesystem")),
        "seccomp": dict(_UNCONFINED) if privileged else _seccomp(context.get("seccompProfile"), seccomp_default),
        "refusal": _refusal(context, image, container["name"], pod["metadata"]),
    }


def _seccomp(profile: Mapping[str, Any] | None, confined: bool) -> dict[str, Any]:
    if not profile:
        return {"type": "RuntimeDefault"} if confined else dict(_UNCONFINED)
    if profile["type"] == "Localhost":
        return {"type": "Localhost", "profile": profile["localhostProfile"]}
    return {"type": profile["type"]}


def _user(context: Mapping[str, Any], image: Mapping[str, Any], pod_context: Mapping[str, Any]) -> dict[str, Any]:
    """Who the container runs as: runAsUser, else the image's USER (text, resolved in its root file system), else 0.

    gid None: the primary group of that user in the image's /etc/passwd, 0 without an entry. members: whether the
    groups that its /etc/group says the user is in are added.
    """
    fs_group = pod_context.get("fsGroup")
    groups = ([] if fs_group is None else [fs_group]) + list(pod_context.get("supplementalGroups") or [])
    made = {
        "gid": context.get("runAsGroup"),
        "groups": groups,
        "members": pod_context.get("supplementalGroupsPolicy") != "Strict",
    }
    if context.get("runAsUser") is not None:
        return {"uid": context["runAsUser"], **made}
    if image.get("User"):
        return {"name": image["User"], **made}
    return {"uid": 0, **made, "gid": made["gid"] or 0}


def _refusal(context: Mapping[str, Any], image: Mapping[str, Any], name: str, metadata: Mapping[str, Any]) -> str:
    """Why the kubelet does not create the container (CreateContainerConfigError): verifyRunAsNonRoot's words."""
    if not context.get("runAsNonRoot"):
        return ""
    where = f'(pod: "{metadata["name"]}_{metadata["namespace"]}({metadata["uid"]})", container: {name})'
    if context.get("runAsUser") is not None:
        return "" if context["runAsUser"] else f"container's runAsUser breaks non-root policy {where}"
    user = str(image.get("User") or "").partition(":")[0]
    uid = _number(user) if user else 0
    if uid == 0:
        return f"container has runAsNonRoot and image will run as root {where}"
    if uid is None:
        why = f"image has non-numeric user ({user}), cannot verify user is non-root"
        return f"container has runAsNonRoot and {why} {where}"
    return ""


def _number(text: str) -> int | None:
    """As Go's strconv.ParseInt reads it: with a sign, but neither spaces nor underscores; None is no number."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None

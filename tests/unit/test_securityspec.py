"""What security contexts become in a container's runtime config; and which of them are refused."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube import capabilities, cluster, kindconfig, security_checks, securityspec

POD = {"metadata": {"name": "web", "namespace": "shop", "uid": "u-1"}, "spec": {}}


def made(own: dict[str, Any], pod: dict[str, Any] | None = None, user: str | None = None) -> dict[str, Any]:
    container = {"name": "c", "securityContext": own}
    whole = {**POD, "spec": {"securityContext": pod or {}}}
    return securityspec.security(container, whole, {"User": user})


USERS = [
    ({}, {}, None, {"uid": 0, "gid": 0, "groups": [], "members": True}),
    ({}, {}, "nginx", {"name": "nginx", "gid": None, "groups": [], "members": True}),
    ({"runAsUser": 1}, {}, "nginx", {"uid": 1, "gid": None, "groups": [], "members": True}),
    (
        {"runAsUser": 1},
        {"runAsUser": 0, "runAsGroup": 5},
        None,
        {"uid": 0, "gid": 5, "groups": [], "members": True},
    ),
    (
        {"runAsGroup": 7, "supplementalGroups": [8], "fsGroup": 9, "supplementalGroupsPolicy": "Strict"},
        {},
        None,
        {"uid": 0, "gid": 7, "groups": [9, 8], "members": False},
    ),
    ({"fsGroup": 0}, {}, "1000:", {"name": "1000:", "gid": None, "groups": [0], "members": True}),
]


@pytest.mark.parametrize(("pod", "own", "image", "expected"), USERS)
def test_who(pod: dict[str, Any], own: dict[str, Any], image: str | None, expected: dict[str, Any]) -> None:
    assert made(own, pod, image)["user"] == expected


WHERE = '(pod: "web_shop(u-1)", container: c)'
ROOT = f"container has runAsNonRoot and image will run as root {WHERE}"
NAMED = "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root " + WHERE
NON_ROOT = [
    ({}, {}, None, ""),
    ({"runAsNonRoot": False}, {"runAsNonRoot": True}, None, ""),
    ({}, {"runAsNonRoot": True}, None, ROOT),
    ({"runAsNonRoot": True}, {}, "0", ROOT),
    ({"runAsNonRoot": True}, {}, "+0", ROOT),
    ({"runAsNonRoot": True}, {}, "-0", ROOT),
    ({"runAsNonRoot": True}, {}, "00:1000", ROOT),
    ({"runAsNonRoot": True}, {}, ":1000", ROOT),
    ({"runAsNonRoot": True}, {}, "1000:0", ""),
    ({"runAsNonRoot": True}, {}, "root", NAMED.format("root")),
    ({"runAsNonRoot": True}, {}, "nginx:1", NAMED.format("nginx")),
    ({"runAsNonRoot": True}, {}, "0x0", NAMED.format("0x0")),
    ({"runAsNonRoot": True}, {}, " 0", NAMED.format(" 0")),
    ({"runAsNonRoot": True}, {}, "0_0", NAMED.format("0_0")),
    ({"runAsNonRoot": True}, {}, "\u0660", NAMED.format("\u0660")),
    ({"runAsNonRoot": True}, {}, "9" * 30, NAMED.format("9" * 30)),
    ({"runAsNonRoot": True}, {"runAsUser": 1000}, "root", ""),
    ({"runAsNonRoot": True, "runAsUser": 0}, {}, "1000", f"container's runAsUser breaks non-root policy {WHERE}"),
]


@pytest.mark.parametrize(("own", "pod", "image", "message"), NON_ROOT)
def test_run_as_non_root(own: dict[str, Any], pod: dict[str, Any], image: str | None, message: str) -> None:
    """In the kubelet's words."""
    assert made(own, pod, image)["refusal"] == message


CAPS = [
    ({}, capabilities.DEFAULT),
    ({"add": ["SYS_TIME"]}, (*capabilities.DEFAULT, "SYS_TIME")),
    ({"add": ["sys_time", "sys_time"], "drop": ["SYS_TIME", "NONE"]}, capabilities.DEFAULT),
    ({"drop": ["ALL"]}, ()),
    ({"add": ["ALL"]}, capabilities.ALL),
    ({"add": ["ALL"], "drop": ["CHOWN"]}, tuple(name for name in capabilities.ALL if name != "CHOWN")),
    ({"add": ["NET_ADMIN", "KILL"], "drop": ["ALL"]}, ("NET_ADMIN", "KILL")),
    # Without its prefix, and nothing that the kernel does not know.
    ({"add": ["CAP_SYS_TIME", "SYS_MAGIC"]}, capabilities.DEFAULT),
]


@pytest.mark.parametrize(("wanted", "expected"), CAPS)
def test_capabilities(wanted: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert made({"capabilities": wanted})["caps"] == list(expected)


def test_the_default_capabilities_are_containerds() -> None:
    from podlab.linux.capabilities import NAMES, mask

    assert mask(capabilities.DEFAULT) == 0xA80425FB
    assert tuple(NAMES) == capabilities.ALL


SECCOMP = [
    ({}, {}, {"type": "Unconfined"}),
    ({}, {"seccompProfile": {"type": "RuntimeDefault"}}, {"type": "RuntimeDefault"}),
    (
        {"seccompProfile": {"type": "Unconfined"}},
        {"seccompProfile": {"type": "RuntimeDefault"}},
        {"type": "Unconfined"},
    ),
    (
        {"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}},
        {"seccompProfile": {"type": "RuntimeDefault"}},
        {"type": "Localhost", "profile": "a/b.json"},
    ),
    ({"privileged": True}, {"seccompProfile": {"type": "RuntimeDefault"}}, {"type": "Unconfined"}),
]


@pytest.mark.parametrize(("own", "pod", "expected"), SECCOMP)
def test_seccomp(own: dict[str, Any], pod: dict[str, Any], expected: dict[str, Any]) -> None:
    assert made(own, pod)["seccomp"] == expected


def test_seccomp_default_of_the_kubelet() -> None:
    def found(context: dict[str, Any]) -> str:
        container = {"name": "c", "securityContext": context}
        return str(securityspec.security(container, POD, {}, seccomp_default=True)["seccomp"]["type"])

    assert found({}) == "RuntimeDefault"
    assert found({"seccompProfile": {"type": "Unconfined"}}) == found({"privileged": True}) == "Unconfined"


def test_privileged() -> None:
    found = made({"privileged": True, "capabilities": {"drop": ["ALL"]}})
    assert (found["privileged"], found["masked"], found["caps"]) == (True, False, list(capabilities.ALL))
    assert made({"procMount": "Unmasked"})["masked"] is False
    assert made({"procMount": "Default"})["masked"] is True


def profile(**fields: Any) -> dict[str, Any]:
    return {"seccompProfile": fields}


HERE = "spec.containers[0].securityContext."
FAULTS = [
    (
        {"privileged": True, "allowPrivilegeEscalation": False},
        f"{HERE}allowPrivilegeEscalation: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    ),
    (
        {"capabilities": {"add": ["SYS_ADMIN"]}, "allowPrivilegeEscalation": False},
        f"{HERE}allowPrivilegeEscalation: cannot be false while capabilities.add has SYS_ADMIN",
    ),
    (
        {"procMount": "Unmasked"},
        f"{HERE}procMount: `hostUsers` must be false to use `Unmasked`",
    ),
    ({"procMount": "None"}, f"{HERE}procMount: must be one of Default, Unmasked, not 'None'"),
    (
        profile(type="Docker"),
        f"{HERE}seccompProfile.type: must be one of Localhost, RuntimeDefault, Unconfined, not 'Docker'",
    ),
    (
        profile(type="Localhost"),
        f"{HERE}seccompProfile.localhostProfile: must be set when seccomp type is Localhost",
    ),
    (
        profile(type="RuntimeDefault", localhostProfile="a"),
        f"{HERE}seccompProfile.localhostProfile: can only be set when seccomp type is Localhost",
    ),
    (
        profile(type="Localhost", localhostProfile="/etc/a.json"),
        f"{HERE}seccompProfile.localhostProfile: must be a relative path, not '/etc/a.json'",
    ),
    (
        profile(type="Localhost", localhostProfile="a/../../b"),
        f"{HERE}seccompProfile.localhostProfile: must not contain '..', which 'a/../../b' does",
    ),
    ({"runAsUser": 4294967296}, f"{HERE}runAsUser: must be between 0 and 2147483647, not 4294967296"),
    ({"runAsUser": 2147483648}, f"{HERE}runAsUser: must be between 0 and 2147483647, not 2147483648"),
    ({"runAsGroup": -1}, f"{HERE}runAsGroup: must be between 0 and 2147483647, not -1"),
    (
        {"capabilities": {"add": ["CAP_CHWN"]}},
        f"{HERE}capabilities.add[0]: the kernel has no capability 'CAP_CHWN'",
    ),
]


def said(spec: dict[str, Any]) -> list[str]:
    found = security_checks.pod_spec(spec, ("spec",))
    return [f"{_text(each.path)}: {each.message}" for each in found]


def _text(path: tuple[Any, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]


@pytest.mark.parametrize(("own", "message"), FAULTS, ids=[row[1] for row in FAULTS])
def test_faults(own: dict[str, Any], message: str) -> None:
    assert said({"containers": [{"name": "c", "securityContext": own}]}) == [message]


def test_faults_of_the_pod_and_of_every_kind_of_container() -> None:
    mounts = [{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]
    spec = {
        "securityContext": {"fsGroup": -1, "supplementalGroupsPolicy": "Some", **profile(type="Localhost")},
        "initContainers": [{"name": "i", "securityContext": {"runAsUser": -1}}],
        "containers": [
            {"name": "c", "volumeMounts": mounts},
            {"name": "p", "volumeMounts": mounts, "securityContext": {"privileged": True}},
        ],
    }
    assert said(spec) == [
        "spec.securityContext.fsGroup: must be between 0 and 2147483647, not -1",
        "spec.securityContext.supplementalGroupsPolicy: must be one of Merge, Strict, not 'Some'",
        "spec.securityContext.seccompProfile.localhostProfile: must be set when seccomp type is Localhost",
        "spec.initContainers[0].securityContext.runAsUser: must be between 0 and 2147483647, not -1",
        "spec.containers[0].volumeMounts[0].mountPropagation: "
        "Bidirectional mount propagation is available only to privileged containers",
    ]


def test_unmasked_with_user_namespaces() -> None:
    spec = {"hostUsers": False, "containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]}
    assert said(spec) == []


@pytest.mark.parametrize(
    ("patches", "expected"),
    [([], False), (["true"], True), (["false"], False), (["true", "false"], False), (["'true'"], False)],
)
def test_the_cluster_config_says_which_default(patches: list[str], expected: bool) -> None:
    head = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"
    lines = [f"- |\n  kind: KubeletConfiguration\n  seccompDefault: {each}\n" for each in patches]
    config, found = kindconfig.load(
        head + ("kubeadmConfigPatches:\n" if lines else "") + "".join(lines), "cluster.yaml"
    )
    assert found == []
    built = cluster.build(config, "kind", "172.18.0.0/16")
    assert built.seccomp_default is expected
    assert cluster.Cluster.from_dict(built.to_dict()) == built

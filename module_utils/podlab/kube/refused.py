"""Why podlab refuses a field that Kubernetes has, and what to do instead: one table, by the field's name.

A key with a dot names the field of that parent, where the name alone means different things.
"""

from __future__ import annotations

from typing import NamedTuple

from .schema import Path

_NO_API = "there is no API server"
_NO_STORAGE = "there is no storage system behind a lab"
_GONE = "Kubernetes has removed it"
_NO_CLASSES = "pods do not preempt each other, and there are no PriorityClasses but the two that every cluster has"
_NO_WINDOWS = "nodes are Linux"
_ALPHA = "Kubernetes itself has it behind an alpha feature gate, which is off"


class Reason(NamedTuple):
    """Why, and what to do."""

    why: str
    remedy: str = "Remove it"


_VOLUMES = {
    name: Reason(_NO_STORAGE, "Use emptyDir or hostPath")
    for name in (
        *("awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "csi", "ephemeral", "fc", "flexVolume"),
        *("gcePersistentDisk", "glusterfs", "iscsi", "nfs", "persistentVolumeClaim", "photonPersistentDisk"),
        *("portworxVolume", "quobyte", "rbd", "scaleIO", "storageos", "vsphereVolume"),
    )
}

REASONS: dict[str, Reason] = {
    **_VOLUMES,
    "flocker": Reason(_GONE, "Use emptyDir or hostPath"),
    "gitRepo": Reason(f"{_GONE}, for it ran git as root", "Clone in an init container into an emptyDir"),
    # -- metadata
    "generateName": Reason("an object needs a name that stays the same from run to run", "Give it a name"),
    # -- workloads
    "loadBalancerIP": Reason(
        "nobody makes load balancers here; say their addresses in status.loadBalancer.ingress",
    ),
    # -- pod
    "affinity": Reason("pods are placed by nodeName, nodeSelector and tolerations", "Use nodeSelector"),
    "automountServiceAccountToken": Reason("there is no API server to have a token for"),
    "ephemeralContainers": Reason(
        "it cannot be set on create, as in Kubernetes", "Add one to the running pod: ./lab debug POD --image IMAGE"
    ),
    "evictionResponders": Reason("nobody evicts pods from a lab"),
    "imagePullSecrets": Reason("images are pulled without credentials", "Use an image that anybody may pull"),
    "overhead": Reason("it belongs to RuntimeClasses, and there is one runtime"),
    "preemptionPolicy": Reason("pods do not preempt each other"),
    "priority": Reason(_NO_CLASSES),
    "priorityClassName": Reason(_NO_CLASSES),
    "resourceClaims": Reason("there are no devices to claim (dynamic resource allocation)"),
    "claims": Reason("there are no devices to claim (dynamic resource allocation)"),
    "runtimeClassName": Reason("there is one runtime, podlab's own"),
    "schedulingGates": Reason(f"{_NO_API} in which somebody could take the gate away"),
    "schedulingGroup": Reason("pods are placed one by one"),
    "schedulerName": Reason("there is one scheduler"),
    "topologySpreadConstraints": Reason("the pods of a workload spread over the nodes that fit anyway"),
    "spec.resources": Reason("a pod has what its containers have", "Set resources of the containers"),
    # -- containers
    "httpGet.protocol": Reason("requests go by HTTP/1.1, as they do without it"),
    "resizePolicy": Reason("a running container keeps its resources", "Change resources: the pod is made anew"),
    "volumes.image": Reason(
        "images are not mounted as volumes", "Copy the files in an init container into an emptyDir"
    ),
    "serviceAccountToken": Reason(f"{_NO_API} that issues tokens"),
    "clusterTrustBundle": Reason(f"{_NO_API} that has trust bundles", "Put the certificates into a ConfigMap"),
    "podCertificate": Reason(f"{_NO_API} that signs certificates", "Put the certificate into a Secret"),
    "bindMountOptions": Reason("podlab binds volumes with the options of their own mounts"),
    "items.user": Reason("the files of a volume belong to root", "Use fsGroup"),
    "fileKeyRef": Reason(
        "the environment comes from manifests, not from files that containers write", "Use configMapKeyRef"
    ),
    "volumeDevices": Reason("there are no volumes that are block devices", "Use hostPath with type BlockDevice"),
    # -- volumes
    "emptyDir.mode": Reason(_ALPHA),
    "defaultUser": Reason(_ALPHA),
    # -- security
    "appArmorProfile": Reason("podlab loads no AppArmor profiles"),
    "seLinuxOptions": Reason("podlab labels nothing for SELinux"),
    "seLinuxChangePolicy": Reason("podlab labels nothing for SELinux"),
    "windowsOptions": Reason(_NO_WINDOWS),
}


def reason(path: Path) -> Reason | None:
    """Why the field at a path is refused; None when nobody has given a reason: it is not done yet."""
    names = [step for step in path if isinstance(step, str)]
    return REASONS.get(".".join(names[-2:])) or REASONS.get(names[-1])

# SPDX-License-Identifier: Apache-2.0
"""Start and delete pods on the nodes of this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: podlab_pod
short_description: Start and delete pods
description:
  - Starts pods on kind-like nodes. Each has a sandbox (pause, its namespaces, an address of the node's range, a veth to
    the node), containers on overlays of their image's layers with cgroups as the kubelet sets them, and a supervisor
    that restarts, logs and reports.
  - A pod that runs or has finished is left alone. One whose supervisor is gone is cleared away and started again.
version_added: "0.1.0"
options:
  cluster:
    description: The cluster, as C(podlab_cluster) of the inventory has it.
    type: dict
    required: true
  pods:
    description:
      - v1 Pod objects with C(metadata.uid) and C(spec.nodeName), as M(podlab_manifests) returns them. What the API
        server fills in may be left out.
      - With O(state=absent) C(metadata.uid) is enough.
    type: list
    elements: dict
    required: true
  services:
    description: All Services, for the variables that containers get.
    type: list
    elements: dict
    default: []
  images:
    description: The images by reference, as M(podlab_image) returns them.
    type: dict
    default: {}
  config_maps:
    description: All v1 ConfigMaps, for the environment and the volumes of pods.
    type: list
    elements: dict
    default: []
  secrets:
    description: The data of all Secrets, as M(podlab_manifests) returns it.
    type: str
    default: ""
  exclusive:
    description: Delete the lab's pods that are not listed.
    type: bool
    default: false
  grace_period:
    description: Seconds that deleted pods have to end; the pod's own when left out.
    type: int
  wait:
    description: Wait until deleted pods are gone.
    type: bool
    default: false
  max_container_restart_period:
    description: Longest wait before a container is started again, in seconds (1 to 300).
    type: int
    default: 300
  state:
    description: V(absent) deletes the listed pods.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Says what would be done without doing it.
    support: full
  diff_mode:
    description: Shows what is managed of each object, before and after.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
  platform:
    description: Where the module works.
    support: full
    platforms: linux
author: the podlab developers (@podlab)
"""

EXAMPLES = r"""
- name: Start the planned pods and delete all others
  podlab_pod:
    cluster: "{{ podlab_cluster }}"
    pods: "{{ plan.pods }}"
    services: "{{ plan.services }}"
    images: "{{ images.images }}"
    exclusive: true

# Complete: the lab is up, and after these three it is as before.
- name: Have the image
  podlab_image:
    images:
      - reference: busybox
  register: had

- name: Start one pod more
  podlab_pod:
    cluster: "{{ podlab_cluster }}"
    images: "{{ had.images }}"
    pods:
      - metadata:
          name: alone
          uid: 7e0ff9a3-6a4e-4b42-9d5e-0d2d9f3f5c11
        spec:
          nodeName: kind-worker
          containers:
            - name: main
              image: busybox
              command: [sleep, "3600"]

- name: Delete it
  podlab_pod:
    cluster: "{{ podlab_cluster }}"
    pods:
      - metadata:
          uid: 7e0ff9a3-6a4e-4b42-9d5e-0d2d9f3f5c11
    state: absent
    grace_period: 0
    wait: true
"""

RETURN = r"""
changed:
  description: Whether anything was (in check mode, would be) changed.
  returned: always
  type: bool
  sample: true
commands:
  description: The commands that a person would type for the same effect, in order.
  returned: always
  type: list
  elements: list
  sample: [[unshare, --net, --ipc, --uts, --pid, --mount, --fork, /pause]]
results:
  description: Per object its name, whether it changed, and its steps.
  returned: always
  type: list
  elements: dict
  sample: []
pods:
  description:
    - The pods that are there, each with C(pod), its PodStatus as C(status), and whether its supervisor is C(alive).
  returned: always
  type: list
  elements: dict
  sample: []
diff:
  description: Per changed object what is managed of it, before and after.
  returned: in diff mode
  type: list
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab import module as glue
from ansible.module_utils.podlab.pod_plan import Pods, Request


def argument_spec() -> dict[str, Any]:
    """The options, as DOCUMENTATION describes them."""
    return {
        "cluster": {"type": "dict", "required": True},
        "pods": {"type": "list", "elements": "dict", "required": True},
        "services": {"type": "list", "elements": "dict", "default": []},
        "images": {"type": "dict", "default": {}},
        "config_maps": {"type": "list", "elements": "dict", "default": []},
        "secrets": {"type": "str", "default": "", "no_log": True},
        "exclusive": {"type": "bool", "default": False},
        "grace_period": {"type": "int"},
        "wait": {"type": "bool", "default": False},
        "max_container_restart_period": {"type": "int", "default": 300},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    period = module.params["max_container_restart_period"]
    if not 1 <= period <= 300:
        module.fail_json(msg=f"max_container_restart_period must be between 1 and 300, not {period}")
    with glue.failing(module):
        pods = Pods(Request(module.params))
    glue.run(module, "pods", pods.items, pods.state, apply_all=pods.apply)


if __name__ == "__main__":
    main()

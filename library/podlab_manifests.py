# SPDX-License-Identifier: Apache-2.0
"""Documentation of podlab_manifests; plugins/action/podlab_manifests.py does the work, on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podlab_manifests
short_description: Plan a lab from Kubernetes manifests
description:
  - Reads manifests as kubectl does, checks them strictly against Kubernetes' own schemas and rules, and places their
    pods on the nodes of a cluster. Every fault of every file is reported at once, with file, line, path and remedy.
  - A field that podlab does not support is an error by name. Manifest text is data and never a template.
  - Keeps the objects as applied in a store. A pod that is there and still wanted stays; removing and adding follow
    Kubernetes' order. The same input gives the same names, UIDs, addresses and places.
  - Changes nothing itself. Its result is what podlab_topology, podlab_image, podlab_pod and podlab_service take, and
    the new store.
  - Runs on the controller. It reads the state of a machine that is not local through podlab_pod_info.
version_added: "0.1.0"
author: podlab contributors
attributes:
  check_mode: {description: Is the same as a real run., support: full}
  diff_mode: {description: Has nothing to show; the modules that follow do., support: none}
  idempotent: {description: Changes nothing., support: full}
  platform: {description: Where it runs., support: full, platforms: any controller}
options:
  cluster:
    description: The cluster, as the inventory plugin gives it in C(podlab_cluster).
    type: dict
    required: true
  manifests_dir:
    description:
      - Directory of the lab's manifests (C(*.yaml), C(*.yml), C(*.json)).
      - Objects that came from it before and are no longer in it are removed. Without the option they stay.
    type: path
  apply:
    description: Manifest files or directories whose objects are added or changed.
    type: list
    elements: path
    default: []
  delete:
    description: Manifest files or directories whose objects are removed. A Namespace takes what is in it along.
    type: list
    elements: path
    default: []
  scale:
    description: Another number of replicas for one object, after everything else.
    type: dict
    suboptions:
      kind: {description: 'Deployment, ReplicaSet or StatefulSet, or a short name such as C(deploy).', type: str,
             required: true}
      name: {description: Name of the object., type: str, required: true}
      namespace: {description: Its namespace., type: str, default: default}
      replicas: {description: How many pods., type: int, required: true}
"""

EXAMPLES = r"""
- name: Plan the lab of a manifests directory
  podlab_manifests:
    cluster: "{{ podlab_cluster }}"
    manifests_dir: "{{ podlab_manifests_dir }}"
  register: __lab_plan

- name: Two more web servers
  podlab_manifests:
    cluster: "{{ podlab_cluster }}"
    scale: {kind: deployment, name: web, replicas: 5}
  register: __lab_plan
"""

RETURN = r"""
changed:
  description: Always false; nothing is touched.
  returned: always
  type: bool
commands:
  description: Always empty; nothing is touched.
  returned: always
  type: list
  sample: []
results:
  description: Always empty; nothing is touched.
  returned: always
  type: list
  sample: []
objects:
  description: The new store, with the address of every Service beside it. Of Secrets the data is left out.
  returned: success
  type: dict
  sample: {objects: [{object: {kind: Service}, source: manifests, clusterIP: 10.96.13.7}]}
secrets:
  description:
    - Stands for the data of all Secrets, in this run of the playbook, for the option of the same name of other
      modules. Empty when there is none. The data itself is in no result.
  returned: success
  type: str
  sample: ""
config_maps:
  description: All ConfigMaps.
  returned: success
  type: list
  elements: dict
  sample: []
pods:
  description: The complete Pod objects that should be there, each with its node.
  returned: success
  type: list
  elements: dict
  sample: []
services:
  description: The complete Service objects, each with its ClusterIP.
  returned: success
  type: list
  elements: dict
  sample: []
endpoint_slices:
  description: The complete EndpointSlice objects of the manifests that name a Service.
  returned: success
  type: list
  elements: dict
  sample: []
images:
  description: The images to have, as podlab_image takes them.
  returned: success
  type: list
  elements: dict
  sample: [{reference: busybox, policy: IfNotPresent}]
image_users:
  description: By image, the nodes and pods that use it.
  returned: success
  type: dict
  sample: {busybox: {nodes: [kind-worker], pods: [default/core-k8s]}}
topology:
  description: The options of podlab_topology for the node network.
  returned: success
  type: dict
  sample: {namespaces: [], links: [], routes: [], sysctls: []}
gateway:
  description: Whether podlab_gateway has anything to do, for what is to be or for what was.
  returned: success
  type: bool
  sample: false
said:
  description: What O(apply) and O(delete) do, a line per object, in kubectl's words.
  returned: success
  type: list
  elements: str
  sample: [service/web created]
problems:
  description: What is wrong, each with C(place), C(message), C(remedy), C(file), C(line) and C(level).
  returned: failure
  type: list
  elements: dict
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab.manifests_options import argument_spec


def main() -> None:
    """Only reached when the action plugin is not found."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    module.fail_json(msg="podlab_manifests runs on the controller: set action_plugins in ansible.cfg to plugins/action")


if __name__ == "__main__":
    main()

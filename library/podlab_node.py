# SPDX-License-Identifier: Apache-2.0
"""Make the nodes of a cluster on this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: podlab_node
short_description: Make kind-like nodes out of namespaces
description:
  - Makes each node of a cluster as a set of namespaces (network, mount, UTS, IPC, PID, cgroup) around a pause process,
    with a cgroup, C(/proc), C(/sys), C(/run), C(/var/log) and names of its own. It shares the machine's file tree
    otherwise.
  - A node's network namespace is one pinned before by M(podlab_topology), named C(podlab-NODE).
  - Nodes that are there and not in the cluster are removed.
version_added: "0.1.0"
options:
  cluster:
    description: The cluster, as C(podlab_cluster) of the inventory has it.
    type: dict
    required: true
  state:
    description: V(absent) removes the cluster's nodes with all their pods.
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
- name: Make the nodes of the inventory's cluster
  podlab_node:
    cluster: "{{ podlab_cluster }}"
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
nodes:
  description: The nodes that are there, each with its pause process.
  returned: always
  type: list
  elements: dict
  sample:
    - {name: kind-worker, role: worker, address: 172.18.0.3, pod_cidr: 10.244.1.0/24, pid: 4711, alive: true}
diff:
  description: Per changed object what is managed of it, before and after.
  returned: in diff mode
  type: list
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab import module as glue
from ansible.module_utils.podlab.node_plan import Nodes


def argument_spec() -> dict[str, Any]:
    """The options, as DOCUMENTATION describes them."""
    return {
        "cluster": {"type": "dict", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    with glue.failing(module):
        nodes = Nodes(module.params["cluster"], module.params["state"], module.check_mode)
    glue.run(module, "nodes", nodes.items, nodes.state)


if __name__ == "__main__":
    main()

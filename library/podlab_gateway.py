# SPDX-License-Identifier: Apache-2.0
"""Make the machine a lab's gateway: mapped ports, and the way outside."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: podlab_gateway
short_description: Map ports of this machine to a lab's nodes, and let the lab outside
description:
  - Programs the C(port_mappings) of a cluster's nodes (kind's C(extraPortMappings)) and, where the cluster has C(nat),
    the way outside, as iptables rules of this machine. A cluster with neither has no rule, and loses those that it had.
  - All rules are in chains of the lab's own, C(PODLAB-DNAT-), C(PODLAB-SNAT-), C(PODLAB-FWD-) and C(PODLAB-IN-) with
    eight hex digits of the lab's name, and carry the comment C(podlab lab NAME).
  - Sets C(net.ipv4.ip_forward). A comment in the rules says what it was, and the last lab that goes puts it back.
  - Host ports that a process listens on or another lab has, and chains of these names that are not the lab's, are
    errors that name the owner, before anything is changed.
version_added: "0.1.0"
options:
  cluster:
    description: The cluster, as C(podlab_cluster) of the inventory has it.
    type: dict
    required: true
  state:
    description: V(absent) takes the lab's rules away whatever the cluster says.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Says what would change without changing it.
    support: full
  diff_mode:
    description: Shows the lab's rules as iptables-save prints them, and the setting, before and after.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
  platform:
    description: Where the module works.
    support: full
    platforms: linux
requirements:
  - iptables 1.6.2 or newer
  - nft, to leave no empty table behind
author: the podlab developers (@podlab)
"""

EXAMPLES = r"""
- name: Map what the cluster says
  podlab_gateway:
    cluster: "{{ podlab_cluster }}"

- name: Map nothing any more
  podlab_gateway:
    cluster: "{{ podlab_cluster }}"
    state: absent
"""

RETURN = r"""
changed:
  description: Whether rules or the setting changed, or would.
  returned: always
  type: bool
  sample: true
commands:
  description: The commands that a person would type for the same effect. iptables-restore reads the text of RV(diff).
  returned: always
  type: list
  elements: list
  sample: [[iptables-restore, -w, "5", --noflush, --counters], [sysctl, -w, net.ipv4.ip_forward=1]]
results:
  description: What was changed and why.
  returned: always
  type: list
  elements: dict
  sample:
    - name: gateway of lab kind
      changed: true
      steps: ["sysctl.set net.ipv4.ip_forward: the machine forwards for the lab"]
gateway:
  description: Whether the lab may go outside, the mapped ports, and the lab's chains that are there.
  returned: always
  type: dict
  sample: {nat: false, ports: ["0.0.0.0:8080 -> kind-worker:30080/TCP"], chains: [nat PODLAB-DNAT-0b27c158]}
diff:
  description: The lab's rules and the setting, before and after.
  returned: in diff mode
  type: list
  elements: dict
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab.gateway_plan import Gateway
from ansible.module_utils.podlab.kube.cluster import Cluster
from ansible.module_utils.podlab.module import failing, run
from ansible.module_utils.podlab.runtime.lock import machine


def argument_spec() -> dict[str, Any]:
    """The module's options, as documented."""
    return {
        "cluster": {"type": "dict", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def main() -> None:
    """Bring the machine to what the cluster says."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    with failing(module):
        plan = Gateway(Cluster.of_option(module.params["cluster"]), module.params["state"] == "present")
    with machine():
        run(module, "gateway", plan.items, plan.state)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Claim a lab's place on a machine, or take the whole lab away."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: podlab_cluster
short_description: Claim a lab on this machine, or take it away whole
description:
  - With O(state=present), writes down which lab is on this machine, its networks and the objects applied to it.
  - With O(state=absent), ends the lab's processes and removes its namespaces, links, cgroups and files, found by name
    and mark. It needs neither the lab's config nor its state, so a half-built lab goes as well as a whole one.
version_added: "0.1.0"
options:
  name:
    description: Name of the lab; that of O(cluster) when left out.
    type: str
  cluster:
    description: The cluster, as C(podlab_cluster) of the inventory has it. Needed with O(state=present).
    type: dict
  objects:
    description: The object store to write down, as M(podlab_manifests) returns it. Left out, it stays as it is.
    type: dict
  secrets:
    description:
      - The data of the objects' Secrets, as M(podlab_manifests) returns it. It is written to a file of
        its own and never shown.
    type: str
    default: ""
  purge:
    description: With O(state=absent), also remove the image store. Refused while another lab is there.
    type: bool
    default: false
  state:
    description: Whether the lab is to be there.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Says what would be done without doing it.
    support: full
  diff_mode:
    description: Shows the lab's record, or what is there of the lab, before and after.
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
- name: Take the lab kind away, whatever is left of it
  podlab_cluster:
    name: kind
    state: absent

- name: Take it away with all images
  podlab_cluster:
    name: kind
    purge: true
    state: absent
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
  sample: [[ip, netns, delete, podlab-kind-network]]
results:
  description: Per object its name, whether it changed, and its steps.
  returned: always
  type: list
  elements: dict
  sample: []
lab:
  description: Name of the lab, and what is there of it.
  returned: always
  type: dict
  sample: {name: kind, found: []}
diff:
  description: The lab's record, or what is there of it, before and after.
  returned: in diff mode
  type: list
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab import cluster_plan
from ansible.module_utils.podlab import module as glue
from ansible.module_utils.podlab.runtime.lock import machine


def argument_spec() -> dict[str, Any]:
    """The options, as DOCUMENTATION describes them."""
    return {
        "name": {"type": "str"},
        "cluster": {"type": "dict"},
        "objects": {"type": "dict"},
        "secrets": {"type": "str", "default": "", "no_log": True},
        "purge": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "present", ["cluster"])],
        required_one_of=[("name", "cluster")],
    )
    params = module.params
    if params["state"] == "absent":
        plan = cluster_plan.Removal(params["name"] or str(params["cluster"].get("name", "")), params["purge"])
        with machine():
            glue.run(module, "lab", plan.items, plan.state)
    with glue.failing(module):
        claim = cluster_plan.Claim(params["cluster"], params["objects"], params["secrets"])
    glue.run(module, "lab", claim.items, claim.state)


if __name__ == "__main__":
    main()

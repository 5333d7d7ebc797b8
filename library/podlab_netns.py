# SPDX-License-Identifier: Apache-2.0
"""Ansible module podlab_netns: network namespaces with a name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podlab_netns
short_description: Create and remove named network namespaces
description:
  - Keeps network namespaces pinned in C(/run/netns), where C(ip netns) and C(ip -n) find them.
  - C(/run/netns) is created when it is missing, and removed again with the last namespace.
  - A plain file that lies in C(/run/netns) in the place of a namespace (what is left after a crash) is repaired.
version_added: "0.1.0"
author: podlab contributors
attributes:
  check_mode:
    description: Reports what a run would change, without changing it.
    support: full
  diff_mode:
    description: Returns the managed properties before and after.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
  platform:
    description: Where the module runs.
    support: full
    platforms: linux
options:
  namespaces:
    description: The namespaces, all in one call.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the namespace, a file name in C(/run/netns).
        type: str
        required: true
      state:
        description: V(present) makes it, V(absent) unpins it; it ends with its last process.
        type: str
        choices: [present, absent]
        default: present
seealso:
  - module: podlab_topology
"""

EXAMPLES = r"""
- name: Two namespaces
  podlab_netns:
    namespaces:
      - name: red
      - name: blue

- name: Only one of them
  podlab_netns:
    namespaces:
      - name: red
        state: absent
      - name: blue
"""

RETURN = r"""
changed:
  description: Whether any namespace was, or in check mode would be, changed.
  returned: always
  type: bool
  sample: true
netns:
  description: The namespaces as they are now.
  returned: always
  type: list
  elements: dict
  sample: [{"name": "red", "state": "present", "inode": 4026532177}]
commands:
  description: The commands that a person would type, in order, also in check mode.
  returned: always
  type: list
  elements: list
  sample: [["ip", "netns", "add", "red"]]
results:
  description: What was changed, per namespace.
  returned: always
  type: list
  elements: dict
  sample: [{"name": "netns red", "changed": true, "steps": ["netns.add netns red: missing"]}]
diff:
  description: State before and after, per changed namespace.
  returned: in diff mode
  type: list
  elements: dict
  sample: [{"before_header": "netns red", "after_header": "netns red", "before": {"state": "absent"},
            "after": {"state": "present"}}]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab.module import run
from ansible.module_utils.podlab.netns_plan import Namespaces


def argument_spec() -> dict[str, Any]:
    """The options, as DOCUMENTATION has them."""
    return {
        "namespaces": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            },
        },
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    namespaces = Namespaces(module.params["namespaces"])
    run(module, "netns", namespaces.items, namespaces.state)


if __name__ == "__main__":
    main()

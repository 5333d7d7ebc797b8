# SPDX-License-Identifier: Apache-2.0
"""Read what is there of a lab on this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: podlab_pod_info
short_description: Read a lab's nodes, pods, Services and objects
description:
  - Returns the state of a lab on this machine as plain data. Reads files and C(/proc) only, and changes nothing.
  - The objects have the data of Secrets, which C(-v) and C(debug) would print; C(no_log) keeps it from that.
version_added: "0.1.0"
options:
  cluster:
    description: Name of the lab.
    type: str
    required: true
attributes:
  check_mode:
    description: The module changes nothing.
    support: full
  diff_mode:
    description: The module changes nothing.
    support: none
  idempotent:
    description: The module changes nothing.
    support: full
  platform:
    description: Where the module works.
    support: full
    platforms: linux
author: the podlab developers (@podlab)
"""

EXAMPLES = r"""
- name: See which pods of the lab kind are there
  podlab_pod_info:
    cluster: kind
  register: lab
"""

RETURN = r"""
state:
  description: The keys C(cluster), C(nodes), C(pods), C(services) and C(objects).
  returned: always
  type: dict
  sample: {cluster: null, nodes: [], pods: [], services: {services: [], endpointslices: []}, objects: {objects: []}}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab.runtime.state import read_state


def argument_spec() -> dict[str, Any]:
    """The options, as DOCUMENTATION describes them."""
    return {"cluster": {"type": "str", "required": True}}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    module.exit_json(changed=False, state=read_state(module.params["cluster"]))


if __name__ == "__main__":
    main()

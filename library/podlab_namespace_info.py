# SPDX-License-Identifier: Apache-2.0
"""Ansible module podlab_namespace_info: which namespaces there are, and who is in them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podlab_namespace_info
short_description: List the machine's namespaces and their processes
description:
  - What C(lsns) shows, as data. Changes nothing.
  - Network namespaces that C(/run/netns) pins are listed with their names, also when no process is in them.
version_added: "0.1.0"
author: podlab contributors
attributes:
  check_mode:
    description: Runs the same in check mode.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
    details: The module only reads.
  idempotent:
    description: The module changes nothing.
    support: full
  platform:
    description: Where the module runs.
    support: full
    platforms: linux
options:
  pids:
    description: Only the namespaces that these processes are in; without it all.
    type: list
    elements: int
  types:
    description: Only namespaces of these types.
    type: list
    elements: str
    choices: [cgroup, ipc, mnt, net, pid, time, user, uts]
    default: [cgroup, ipc, mnt, net, pid, time, user, uts]
"""

EXAMPLES = r"""
- name: Every network namespace
  podlab_namespace_info:
    types: [net]
  register: found

- name: The namespaces of one process
  podlab_namespace_info:
    pids: [1]
"""

RETURN = r"""
namespaces:
  description: The namespaces, ordered by type and inode. C(names) are those in C(/run/netns).
  returned: always
  type: list
  elements: dict
  sample: [{"inode": 4026531840, "type": "net", "pids": [1, 2], "command": "/sbin/init", "names": []}]
processes:
  description: Of each process in I(pids) the inode of its namespaces by type.
  returned: always
  type: list
  elements: dict
  sample: [{"pid": 1, "namespaces": {"net": 4026531840, "uts": 4026531838}}]
commands:
  description: The commands that show the same.
  returned: always
  type: list
  elements: list
  sample: [["lsns", "-p", "1"]]
results:
  description: Empty, as nothing is changed.
  returned: always
  type: list
  elements: dict
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab.errors import Problem, refuse
from ansible.module_utils.podlab.linux import namespaces
from ansible.module_utils.podlab.module import failing


def argument_spec() -> dict[str, Any]:
    """The options, as DOCUMENTATION has them."""
    types = list(namespaces.TYPES)
    return {
        "pids": {"type": "list", "elements": "int"},
        "types": {"type": "list", "elements": "str", "choices": types, "default": types},
    }


def inodes_of(pids: list[int], types: list[str]) -> dict[int, dict[str, int]]:
    """The namespaces of each process. Raises PodlabError naming every pid that is none."""
    found, problems = {}, []
    for number, pid in enumerate(pids):
        try:
            found[pid] = namespaces.of_process(pid, types)
        except OSError as error:
            problems.append(Problem(f"pids[{number}]", f"cannot look at process {pid}: {error.strerror}"))
    refuse(problems, "The list of processes is not valid")
    return found


def info(pids: list[int] | None, types: list[str]) -> dict[str, Any]:
    """The module's result. Raises PodlabError."""
    asked = inodes_of(pids or [], types)
    pinned = namespaces.pinned() if "net" in types else {}
    found = namespaces.group(namespaces.survey(types), pinned)
    if pids is not None:
        wanted = {(kind, inode) for process in asked.values() for kind, inode in process.items()}
        found = [each for each in found if (each.type, each.inode) in wanted]
    return {
        "changed": False,
        "commands": [["lsns", "-p", str(pid)] for pid in pids] if pids is not None else [["lsns"]],
        "results": [],
        "namespaces": [each._asdict() for each in found],
        "processes": [{"pid": pid, "namespaces": its} for pid, its in asked.items()],
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    with failing(module):
        result = info(module.params["pids"], module.params["types"])
    module.exit_json(**result)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The podlab_cgroup module."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podlab_cgroup
short_description: cgroups and their limits, v1, hybrid and v2
description:
  - Makes, changes and removes cgroups below one parent that podlab owns. A path means the same cgroup in every
    hierarchy of the machine; each setting goes to the hierarchy that has its controller.
  - Settings are said in v2's words and written as the machine needs them (C(cpu.max), or C(cpu.cfs_quota_us) and
    C(cpu.cfs_period_us)). They are read back and compared by value. What is left out is left alone.
options:
  cgroups:
    description: The cgroups, worked on in the order given.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Path from the root of the hierarchy, below O(parent), such as V(podlab/demo).
        type: str
        required: true
      state:
        description: Whether it should be there. V(absent) takes the cgroups below it along.
        type: str
        choices: [present, absent]
        default: present
      kill:
        description: With V(absent), kill the processes inside. Without it, they are an error.
        type: bool
        default: false
      level:
        description:
          - Whose formula turns O(cgroups[].cpu_shares) into a v2 weight. The kubelet's (linear) for V(kubepods),
            V(qos) and V(pod), the container runtime's for V(container).
        type: str
        choices: [kubepods, qos, pod, container]
        default: container
      cpu_shares:
        description: CPU share when CPUs are scarce, on v1's scale, 2 to 262144 (1024 is one CPU of Kubernetes).
        type: int
      cpu_weight:
        description: The same on v2's scale, 1 to 10000 (100 is the kernel's default, 1024 shares).
        type: int
      cpu_max:
        description: CPU limit as v2 writes it, V(QUOTA PERIOD) in microseconds, or V(max).
        type: str
      cpu_quota_us:
        description: CPU limit in microseconds per period, at least 1000; -1 is none.
        type: int
      cpu_period_us:
        description: The period, 1000 to 1000000 microseconds; 100000 when left out.
        type: int
      cpuset_cpus:
        description: CPUs it may use, V(0-2,4).
        type: str
      cpuset_mems:
        description: Memory nodes it may use, V(0).
        type: str
      memory_max:
        description: Memory limit in bytes (V(67108864), V(64Mi)) or V(max).
        type: str
      memory_swap_max:
        description:
          - Swap limit in bytes, counted apart from memory as v2 does, or V(max). Needs O(cgroups[].memory_max).
        type: str
      memory_oom_group:
        description: Whether the OOM killer takes all processes of the cgroup. v2 only, v1 has no such setting.
        type: bool
      pids_max:
        description: Number of tasks, or V(max).
        type: str
      hugetlb:
        description: Bytes of huge page memory (V(4Mi), V(max)) per page size as the kernel names it, C(2MB).
        type: dict
      io_weight:
        description: Share of the disk, 1 to 10000 (100 is the kernel's default).
        type: int
      io_max:
        description: Limits per block device.
        type: list
        elements: dict
        suboptions:
          device:
            description: V(MAJOR:MINOR) of the whole device.
            type: str
            required: true
          rbps:
            description: Bytes read per second; -1 is no limit.
            type: int
          wbps:
            description: Bytes written per second; -1 is no limit.
            type: int
          riops:
            description: Reads per second; -1 is no limit.
            type: int
          wiops:
            description: Writes per second; -1 is no limit.
            type: int
      pids:
        description: Processes that should be in it.
        type: list
        elements: int
  parent:
    description:
      - The cgroup below which this module may act. Made when needed, removed with the last cgroup in it.
    type: str
    default: podlab
author: [podlab]
attributes:
  check_mode:
    support: full
    description: Predicts without changing anything.
  diff_mode:
    support: full
    description: Shows the managed control files before and after.
  idempotent:
    support: full
    description: A second run with the same input changes nothing.
  platform:
    support: full
    platforms: Linux
    description: Needs root.
"""

EXAMPLES = r"""
- name: A tenth of a CPU and 64 MiB, as Kubernetes limits a container
  podlab_cgroup:
    cgroups:
      - path: podlab/demo
        cpu_shares: 102
        cpu_max: 10000 100000
        memory_max: 64Mi
        memory_swap_max: "0"
        pids_max: "100"

- name: Gone, with whatever runs in it
  podlab_cgroup:
    cgroups:
      - path: podlab/demo
        state: absent
        kill: true
"""

RETURN = r"""
changed:
  description: Whether anything was, or in check mode would be, done.
  returned: always
  type: bool
  sample: true
cgroups:
  description: The listed cgroups as they are in the end. The mode of the machine is v1, hybrid or v2.
  returned: success
  type: list
  elements: dict
  sample: [{path: podlab/demo, state: present, mode: v2, directories: [/sys/fs/cgroup/podlab/demo], processes: [],
            values: {cpu_weight: 17, memory_limit: 67108864}}]
commands:
  description: What a person would have typed, in order.
  returned: success
  type: list
  elements: list
  sample: [[mkdir, -p, /sys/fs/cgroup/podlab/demo]]
results:
  description: Per cgroup its name, whether it changed, and the steps with their reasons.
  returned: success
  type: list
  elements: dict
  sample: [{name: podlab/demo, changed: true, steps: ["cgroup.add podlab/demo: missing"]}]
diff:
  description: Per changed cgroup the managed control files before and after.
  returned: in diff mode
  type: list
  elements: dict
  sample: [{before_header: podlab/demo, after_header: podlab/demo, before: {state: absent}, after: {state: present}}]
problems:
  description: Every problem of the input, with place, message and remedy.
  returned: on failure because of the input
  type: list
  elements: dict
  sample: [{place: "cgroups[0].memory_max", message: "must be bytes (67108864, 64Mi) or max, not '64M'"}]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab.cgroup_look import look
from ansible.module_utils.podlab.cgroup_plan import plan
from ansible.module_utils.podlab.cgroup_want import wanted
from ansible.module_utils.podlab.errors import refuse
from ansible.module_utils.podlab.linux.cgroup import Hierarchies, detect
from ansible.module_utils.podlab.module import run
from ansible.module_utils.podlab.step import Item


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    number = {"type": "int"}
    device = {"device": {"type": "str", "required": True}}
    options: dict[str, Any] = {
        "path": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "kill": {"type": "bool", "default": False},
        "level": {"type": "str", "choices": ["kubepods", "qos", "pod", "container"], "default": "container"},
        "memory_oom_group": {"type": "bool"},
        "hugetlb": {"type": "dict"},
        "io_max": {
            "type": "list",
            "elements": "dict",
            "options": {**device, **dict.fromkeys(("rbps", "wbps", "riops", "wiops"), number)},
        },
        "pids": {"type": "list", "elements": "int"},
    }
    options.update(dict.fromkeys(("cpu_shares", "cpu_weight", "cpu_quota_us", "cpu_period_us", "io_weight"), number))
    texts = ("cpu_max", "cpuset_cpus", "cpuset_mems", "memory_max", "memory_swap_max", "pids_max")
    options.update(dict.fromkeys(texts, {"type": "str"}))
    return {
        "cgroups": {"type": "list", "elements": "dict", "required": True, "options": options},
        "parent": {"type": "str", "default": "podlab"},
    }


def main() -> None:
    """Observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    parent = module.params["parent"].strip("/")
    seen: set[int] = set()

    def items() -> list[Item]:
        wants, problems = wanted(module.params["cgroups"], parent)
        refuse(problems, "The cgroups are not valid")
        here = look()
        if seen:  # the second look, after the changes: a process that was moved may have ended by now
            wants = [want._replace(pids=tuple(pid for pid in want.pids if here.alive(pid))) for want in wants]
        seen.update(pid for want in wants for pid in want.pids)
        planned, problems = plan(wants, parent, here)
        refuse(problems, "The cgroups cannot be made so")
        return planned

    def state() -> list[dict[str, Any]]:
        trees = detect()
        return [_state(trees, given["path"].strip("/")) for given in module.params["cgroups"]]

    run(module, "cgroups", items, state)


def _state(trees: Hierarchies, path: str) -> dict[str, Any]:
    if not trees.exists(path):
        return {"path": path, "state": "absent", "mode": trees.mode}
    values = {key: value for key, value in trees.read(path)._asdict().items() if value not in (None, {})}
    return {
        "path": path,
        "state": "present",
        "mode": trees.mode,
        "directories": trees.directories(path),
        "processes": trees.pids(path),
        "values": values,
    }


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Check that a machine can carry podlab's nodes, and switch swap off when asked."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podlab_prerequisites
short_description: Check that a machine can carry podlab's nodes
version_added: "0.1.0"
description:
  - Checks a machine as C(kubeadm) checks one before C(init) and C(join), under kubeadm's names and with its levels,
    and what podlab needs besides.
  - Every check is made, then the task fails once, naming every error with its remedy. Warnings are shown.
  - What costs nothing to read is read; only where the kernel's configuration leaves open whether something works
    it is tried, in namespaces that vanish at once.
options:
  role:
    description:
      - What the machine is to become. It decides which checks are made.
      - V(kind-node), nodes on it are namespaces. V(machine), the machine is a node itself.
      - V(init) and V(join), kubeadm is to run on it.
    type: str
    choices: [kind-node, machine, init, join]
    default: kind-node
  ignore:
    description:
      - Names of checks whose errors are to be warnings, and whose warnings are not to be shown. Any case.
      - A group (V(SystemVerification), V(Kernel), V(podlab)) stands for all of its checks, V(all) for every check.
    type: list
    elements: str
    default: []
  swap:
    description:
      - V(check) warns about swap. V(off) switches every swap area off, until the next boot.
    type: str
    choices: [check, 'off']
    default: check
  ip_family:
    description: Addresses that pods get; it decides which forwarding must be on.
    type: str
    choices: [ipv4, ipv6, dual]
    default: ipv4
  pod_subnet:
    description: Addresses of pods, as a kind config has them. Checked against the proxy settings (V(init)).
    type: str
    default: ''
  service_subnet:
    description: Addresses of Services. Checked against the proxy settings (V(init)).
    type: str
    default: ''
  api_address:
    description: Address of the API server. Checked against the proxy settings (V(init), V(join)).
    type: str
    default: ''
  kube_proxy_mode:
    description: What Services will be. C(nft) is only looked for where it is V(nftables).
    type: str
    choices: [iptables, nftables, none]
    default: iptables
attributes:
  check_mode:
    support: full
    description: Can run in check_mode and return changed status prediction without modifying target.
  diff_mode:
    support: full
    description: Returns what would change, or has changed, as before and after.
  idempotent:
    support: full
    description: A second run without other changes in between changes nothing.
  platform:
    support: full
    platforms: linux
    description: Target OS that the module works on.
author:
  - podlab contributors (@podlab)
"""

EXAMPLES = r"""
- name: Check the machine that carries the lab
  podlab_prerequisites:

- name: Prepare a machine for kubeadm, whatever its number of CPUs
  podlab_prerequisites:
    role: init
    swap: 'off'
    ignore: [NumCPU, Mem]
    pod_subnet: 10.244.0.0/16
    service_subnet: 10.96.0.0/16
"""

RETURN = r"""
checks:
  description: Every check that the role has, in order; of a failed task only those that failed.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the check; kubeadm's where kubeadm has it.
      type: str
      returned: always
    level:
      description: V(error) or V(warning).
      type: str
      returned: always
    ok:
      description: Whether the machine passes.
      type: bool
      returned: always
    message:
      description: Why it does not; empty when it does.
      type: str
      returned: always
    remedy:
      description: What to do about it; empty when it passes.
      type: str
      returned: always
    ignored:
      description: Whether O(ignore) names it.
      type: bool
      returned: always
  sample:
    - {name: Swap, level: warning, ok: true, message: '', remedy: '', ignored: false}
changed:
  description: Whether swap was, or in check mode would be, switched off.
  returned: always
  type: bool
  sample: false
commands:
  description: What a person would have typed, as lists of words, in order.
  returned: always
  type: list
  elements: list
  sample: [[swapoff, /dev/sda2]]
results:
  description: For each thing that can change (here swap), whether it did and by which steps.
  returned: always
  type: list
  elements: dict
  sample: [{name: swap, changed: false, steps: []}]
diff:
  description: What changes, before and after.
  returned: in diff mode
  type: list
  elements: dict
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab import prereq
from ansible.module_utils.podlab.errors import refuse
from ansible.module_utils.podlab.module import run
from ansible.module_utils.podlab.prereq_facts import ROLES, Wanted, observe
from ansible.module_utils.podlab.step import Item


def argument_spec() -> dict[str, dict[str, object]]:
    """The module's options."""
    return {
        "role": {"type": "str", "choices": list(ROLES), "default": ROLES[0]},
        "ignore": {"type": "list", "elements": "str", "default": []},
        "swap": {"type": "str", "choices": ["check", "off"], "default": "check"},
        "ip_family": {"type": "str", "choices": ["ipv4", "ipv6", "dual"], "default": "ipv4"},
        "pod_subnet": {"type": "str", "default": ""},
        "service_subnet": {"type": "str", "default": ""},
        "api_address": {"type": "str", "default": ""},
        "kube_proxy_mode": {"type": "str", "choices": ["iptables", "nftables", "none"], "default": "iptables"},
    }


def main() -> None:
    """Check, then switch swap off when asked."""
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    params = module.params
    wanted = Wanted(
        role=params["role"],
        ip_family=params["ip_family"],
        pod_subnet=params["pod_subnet"],
        service_subnet=params["service_subnet"],
        api_address=params["api_address"],
        kube_proxy_mode=params["kube_proxy_mode"],
    )
    goes_off = params["swap"] == "off"
    outcomes: list[prereq.Outcome] = []

    def plan() -> list[Item]:
        facts = observe(wanted)
        if not outcomes:
            refuse([*prereq.unknown_names(params["ignore"]), *prereq.bad_subnets(wanted)])
            outcomes.extend(prereq.judge(facts, wanted, params["ignore"], swap_goes_off=goes_off))
            for text in prereq.warnings(outcomes):
                module.warn(text)
            prereq.demand(outcomes, wanted.role)
        steps = prereq.swap_steps(facts) if goes_off else []
        return [Item("swap", steps, {"swap": list(facts.swaps)}, {"swap": [] if goes_off else list(facts.swaps)})]

    run(module, "checks", plan, lambda: prereq.plain(outcomes))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Program Services on the nodes of this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: podlab_service
short_description: Program Services on nodes, as kube-proxy does it
description:
  - Makes EndpointSlices from pods and programs the Services of a cluster on each of its nodes on this machine,
    with kube-proxy's own iptables chains, names and order, or with its nftables table where the cluster's
    C(kube_proxy_mode) is V(nftables). With V(none) no rules of Services are written.
  - Reads a node's rules with one C(iptables-save) and changes them with at most one C(iptables-restore --noflush).
    Only the chains of Services that differ are rewritten, chains of Services and endpoints that are gone are removed,
    and rules of others are left alone.
  - When endpoints of UDP Services have changed, forgets the tracked connections that lead to endpoints that are
    gone, as with C(conntrack -D), so that clients which keep their port get another endpoint.
  - In nftables mode reads the table C(kube-proxy) with one C(nft list table) and sends the difference to C(nft -f -) in
    one transaction. Chains that nothing needs any more are deleted in a second one, and so is whatever else is in that
    table.
  - Where the mode was changed, the rules of the other one go.
  - The rules follow what there is. With nfacct in the kernel they count with the counters
    C(ct_state_invalid_dropped_pkts) and C(localhost_nps_accepted_pkts), which are made before and removed with them;
    C(--random-fully) is used from iptables 1.6.2 on; nothing in the state INVALID is dropped on a node whose
    C(net.netfilter.nf_conntrack_tcp_be_liberal) is set.
  - On every node, whatever the proxy mode, makes kindnet's iptables chain C(KIND-MASQ-AGENT), so that what pods
    send out of the pods' network carries the node's address.
  - Writes the DNS records of Services and headless endpoints as one file, C(records.json), which the lab's DNS server
    looks at when it is asked.
version_added: "0.1.0"
options:
  cluster:
    description: The cluster, as C(podlab_cluster) of the inventory has it.
    type: dict
    required: true
  nodes:
    description: The nodes to program; all nodes of the cluster when left out.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the node.
        type: str
        required: true
      netns:
        description: Name in C(/run/netns), or path, of the node's network namespace; C(podlab-NAME) when left out.
        type: str
  services:
    description: Every Service of the cluster, v1 objects complete with C(spec.clusterIP).
    type: list
    elements: dict
    default: []
  pods:
    description: Every pod of the cluster, each as C(pod), a v1 Pod, and C(status), its PodStatus.
    type: list
    elements: dict
    default: []
  endpoint_slices:
    description: EndpointSlices that somebody wrote, used beside those made from O(pods) for Services with a selector.
    type: list
    elements: dict
    default: []
  proxy:
    description: What a KubeProxyConfiguration says.
    type: dict
    suboptions:
      backend:
        description: The iptables backend; what the machine's C(iptables) is, when left out.
        type: str
        choices: [nft, legacy]
      detect_local_mode:
        description: How traffic of pods is told from other traffic.
        type: str
        choices: [ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix]
        default: ClusterCIDR
      detect_local:
        description: The CIDR, bridge or prefix for O(proxy.detect_local_mode); the pod subnet for V(ClusterCIDR).
        type: str
      masquerade_all:
        description: Masquerade all traffic to cluster addresses.
        type: bool
        default: false
      masquerade_bit:
        description: Bit of the packet mark that asks for masquerading.
        type: int
        default: 14
      nodeport_addresses:
        description:
          - CIDRs of the node addresses that NodePorts answer on.
          - When empty, all addresses in iptables mode and the node's primary one in nftables mode.
        type: list
        elements: str
        default: []
      localhost_nodeports:
        description: Let NodePorts answer on 127.0.0.1, in iptables mode.
        type: bool
        default: true
      sync_period:
        description: Seconds after which a watcher looks at the rules themselves, whether somebody has changed them.
        type: int
        default: 30
      tcp_be_liberal:
        description: Leave out the rule that drops packets in the conntrack state INVALID.
        type: bool
        default: false
  dns_dir:
    description: Directory for the DNS records; the lab's own when left out. Every other file in it is removed.
    type: path
  state_file:
    description: File for the Services and EndpointSlices as programmed; the lab's own when left out.
    type: path
  watch:
    description:
      - Keep a process that does the same again whenever a pod changes, so that endpoints follow pods without another
        run. It ends with the lab.
      - Without it pods that are being deleted are no endpoints, since nobody would notice their end.
    type: bool
    default: false
  state:
    description: V(absent) takes kube-proxy's and kindnet's rules of every mode, the records and the state file away.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Says what would change without changing it, also when the nodes do not exist yet.
    support: full
  diff_mode:
    description: Shows the chains that change as iptables-save prints them or as nft reads them, and the DNS records.
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
  - nftables 1.0.6 or newer, in nftables mode
author:
  - podlab authors
"""

EXAMPLES = r"""
- name: Program the Services of the lab
  podlab_service:
    cluster: "{{ podlab_cluster }}"
    services: "{{ plan.services }}"
    pods: "{{ pods.pods }}"
    endpoint_slices: "{{ plan.endpoint_slices }}"

# In a lab that is up the watcher soon brings back what the lab's objects say: change those, with ./lab apply.
- name: Program one node by hand
  podlab_service:
    cluster:
      name: kind
      pod_subnet: 10.244.0.0/16
      nodes:
        - name: kind-worker
          address: 172.18.0.3
    services:
      - metadata:
          name: web
          namespace: default
        spec:
          clusterIP: 10.96.0.20
          selector:
            app: web
          ports:
            - port: 80
              targetPort: 8080
    pods:
      - pod:
          metadata:
            name: web-1
            namespace: default
            labels:
              app: web
          spec:
            nodeName: kind-worker
            containers: []
        status:
          podIP: 10.244.1.2
          conditions:
            - type: Ready
              status: "True"
"""

RETURN = r"""
changed:
  description: Whether rules, records or the state file changed, or would.
  returned: always
  type: bool
  sample: true
commands:
  description:
    - The commands that a person would type for the same effect.
    - iptables-restore and nft read what makes the difference that RV(diff) shows.
  returned: always
  type: list
  elements: list
  sample: [[ip, netns, exec, podlab-kind-worker, iptables-restore, -w, "5", --noflush, --counters]]
results:
  description: Two entries per node, for kube-proxy's rules and for kindnet's, one for the DNS records, one for
    the state file, one for the watcher.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the node, the same with V(masquerade), or V(dns), V(state) or V(watcher).
      type: str
    changed:
      description: Whether it changed.
      type: bool
    steps:
      description: What was done and why.
      type: list
      elements: str
  sample:
    - name: kind-worker
      changed: true
      steps: ["iptables.restore node kind-worker: 2 chain(s) missing or different"]
services:
  description: The Services as programmed, with their ready endpoints.
  returned: always
  type: list
  elements: dict
  sample:
    - namespace: default
      name: web
      clusterIP: 10.96.0.20
      ports: [80/TCP]
      endpoints: ["10.244.1.2:8080"]
diff:
  description:
    - Per node the lines that change, as iptables-save prints them; the DNS records that change.
    - In nftables mode the chains, maps and sets that change, with their rules and elements as they are typed.
  returned: when diff mode is on
  type: list
  elements: dict
"""

import contextlib
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab import service_watch
from ansible.module_utils.podlab.module import failing, run
from ansible.module_utils.podlab.runtime.ruleslock import programming
from ansible.module_utils.podlab.service_plan import ServicePlan
from ansible.module_utils.podlab.service_request import request


def argument_spec() -> dict[str, Any]:
    """The module's options, as documented."""
    return {
        "cluster": {"type": "dict", "required": True},
        "nodes": {
            "type": "list",
            "elements": "dict",
            "options": {"name": {"type": "str", "required": True}, "netns": {"type": "str"}},
        },
        "services": {"type": "list", "elements": "dict", "default": []},
        "pods": {"type": "list", "elements": "dict", "default": []},
        "endpoint_slices": {"type": "list", "elements": "dict", "default": []},
        "proxy": {
            "type": "dict",
            "options": {
                "backend": {"type": "str", "choices": ["nft", "legacy"]},
                "detect_local_mode": {
                    "type": "str",
                    "choices": ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"],
                    "default": "ClusterCIDR",
                },
                "detect_local": {"type": "str"},
                "masquerade_all": {"type": "bool", "default": False},
                "masquerade_bit": {"type": "int", "default": 14},
                "nodeport_addresses": {"type": "list", "elements": "str", "default": []},
                "localhost_nodeports": {"type": "bool", "default": True},
                "tcp_be_liberal": {"type": "bool", "default": False},
                "sync_period": {"type": "int", "default": 30},
            },
        },
        "dns_dir": {"type": "path"},
        "state_file": {"type": "path"},
        "watch": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def main() -> None:
    """Program what the options ask for."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    with failing(module):
        asked = request(module.params)
    plan = ServicePlan(asked, module.check_mode, service_watch.__name__)
    with programming(asked.cluster) if module.params["watch"] else contextlib.nullcontext():
        run(module, "services", plan.items, plan.summary, apply_all=plan.apply_all)


if __name__ == "__main__":
    main()

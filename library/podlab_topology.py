# SPDX-License-Identifier: Apache-2.0
"""Ansible module podlab_topology: namespaces, links, addresses and routes in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podlab_topology
short_description: Build a network of namespaces, links, addresses and routes
description:
  - Takes a whole topology across network namespaces, compares it with the kernel and makes only the difference.
  - What an entry does not say is left alone. I(addresses) of a link is the complete list of its addresses.
  - Order is namespaces, links (bridges first), settings, addresses, routes, neighbours, forwarding entries; reversed
    for what is absent. A link of another kind, with another peer or with other VXLAN options is made again.
  - Without I(netns) an entry is about the machine's own namespace. There only links with our I(altname) are
    changed, and a network that the machine reaches already is not taken over.
version_added: "0.1.0"
author: podlab contributors
attributes:
  check_mode: {description: Reports what a run would change., support: full}
  diff_mode: {description: Returns the managed properties before and after., support: full}
  idempotent: {description: A second run changes nothing., support: full}
  platform: {description: Where the module runs., support: full, platforms: linux}
options:
  state:
    description: State of every entry that does not say its own.
    type: str
    choices: [present, absent]
    default: present
  namespaces:
    description: Network namespaces, pinned in C(/run/netns).
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name of the namespace., type: str, required: true}
      state: {description: Whether it is wanted., type: str, choices: [present, absent]}
      loopback: {description: Whether C(lo) is up., type: bool}
      sysctls: {description: 'Settings below C(net.), set before any link is made.', type: dict}
  links:
    description: Network devices.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: 'Device name, at most 15 bytes.', type: str, required: true}
      netns: {description: Namespace; without it the machine's own., type: str}
      kind: {description: Kind of link., type: str, choices: [bridge, dummy, veth, vxlan], required: true}
      state: {description: Whether it is wanted., type: str, choices: [present, absent]}
      mtu: {description: Bytes per packet., type: int}
      address: {description: MAC address., type: str}
      altname: {description: 'Further name; in the machine''s namespace required, beginning with podlab-.', type: str}
      master: {description: Bridge that it is a port of; empty for none., type: str}
      addrgenmode: {description: How IPv6 makes link-local addresses., type: str,
                    choices: [eui64, none, stable_secret, random]}
      up: {description: Whether it is up., type: bool}
      addresses: {description: 'All its addresses, with prefix length.', type: list, elements: str}
      port:
        description: Options as a port of a bridge.
        type: dict
        suboptions:
          hairpin: {description: Send packets back where they came from., type: bool}
          learning: {description: Learn addresses., type: bool}
          flood: {description: Send packets for unknown addresses., type: bool}
          neigh_suppress: {description: Answer ARP and ND for known neighbours., type: bool}
          isolated: {description: Talk to not isolated ports only., type: bool}
      peer:
        description: The other end of a veth pair.
        type: dict
        suboptions:
          name: {description: 'Device name, at most 15 bytes.', type: str, required: true}
          netns: {description: Namespace; without it the machine's own., type: str}
          mtu: {description: Bytes per packet., type: int}
          address: {description: MAC address., type: str}
          altname: {description: 'Further name; in the machine''s namespace required, beginning with podlab-.',
                    type: str}
          master: {description: Bridge that it is a port of; empty for none., type: str}
          addrgenmode: {description: How IPv6 makes link-local addresses., type: str,
                        choices: [eui64, none, stable_secret, random]}
          up: {description: Whether it is up., type: bool}
          addresses: {description: 'All its addresses, with prefix length.', type: list, elements: str}
          port:
            description: Options as a port of a bridge.
            type: dict
            suboptions:
              hairpin: {description: Send packets back where they came from., type: bool}
              learning: {description: Learn addresses., type: bool}
              flood: {description: Send packets for unknown addresses., type: bool}
              neigh_suppress: {description: Answer ARP and ND for known neighbours., type: bool}
              isolated: {description: Talk to not isolated ports only., type: bool}
      bridge:
        description: Options of a bridge.
        type: dict
        suboptions:
          stp: {description: Spanning tree., type: bool}
          vlan_filtering: {description: VLAN filtering., type: bool}
          mcast_snooping: {description: IGMP and MLD snooping., type: bool}
          ageing_time: {description: Hundredths of a second until a learned address is forgotten., type: int}
          group_fwd_mask: {description: Link-local groups to forward., type: int}
          nf_call_iptables: {description: Show bridged IPv4 to iptables., type: bool}
          nf_call_ip6tables: {description: Show bridged IPv6 to ip6tables., type: bool}
          nf_call_arptables: {description: Show bridged ARP to arptables., type: bool}
      vxlan:
        description: Options of a VXLAN device.
        type: dict
        suboptions:
          id: {description: 'VNI, 1 to 16777215.', type: int}
          dstport: {description: UDP port of the remote end., type: int, default: 8472}
          learning: {description: Learn remote ends from packets., type: bool}
          local: {description: Own address in the network below., type: str}
          dev: {description: Device below., type: str}
          ttl: {description: TTL of the outer packet., type: int}
  addresses:
    description: Addresses of links, where more than the list of a link is to be said.
    type: list
    elements: dict
    default: []
    suboptions:
      netns: {description: Namespace; without it the machine's own., type: str}
      dev: {description: Device., type: str, required: true}
      address: {description: Address with prefix length., type: str, required: true}
      scope: {description: Scope of the address., type: str, choices: [global, site, link, host]}
      noprefixroute: {description: Make no route to its network., type: bool}
      nodad: {description: 'IPv6, use it at once.', type: bool}
      state: {description: Whether it is wanted., type: str, choices: [present, absent]}
  routes:
    description: Routes of the main table.
    type: list
    elements: dict
    default: []
    suboptions:
      netns: {description: Namespace; without it the machine's own., type: str}
      dst: {description: 'Network, address, or C(default).', type: str, required: true}
      via: {description: Next hop., type: str}
      dev: {description: Device., type: str}
      scope: {description: Scope of the route., type: str, choices: [global, site, link, host]}
      src: {description: Preferred source address., type: str}
      onlink: {description: Take the next hop for a neighbour., type: bool}
      metric: {description: Lower wins., type: int}
      type: {description: What to do with packets., type: str, choices: [unicast, blackhole, unreachable, prohibit]}
      state: {description: Whether it is wanted., type: str, choices: [present, absent]}
  neighbours:
    description: Permanent ARP and neighbour discovery entries.
    type: list
    elements: dict
    default: []
    suboptions:
      netns: {description: Namespace; without it the machine's own., type: str}
      dev: {description: Device., type: str, required: true}
      dst: {description: IP address., type: str, required: true}
      address: {description: MAC address., type: str, required: true}
      state: {description: Whether it is wanted., type: str, choices: [present, absent]}
  fdb:
    description: Forwarding entries, of a VXLAN with I(dst), of a bridge's port without.
    type: list
    elements: dict
    default: []
    suboptions:
      netns: {description: Namespace; without it the machine's own., type: str}
      dev: {description: VXLAN device or port of a bridge., type: str, required: true}
      address: {description: 'MAC address; all zero for what has no entry.', type: str, required: true}
      dst: {description: Remote end of the VXLAN., type: str}
      state: {description: Whether it is wanted., type: str, choices: [present, absent]}
  sysctls:
    description: Settings below C(net.), set when the links are there. V(absent) does nothing.
    type: list
    elements: dict
    default: []
    suboptions:
      netns: {description: Namespace; without it the machine's own., type: str}
      name: {description: 'Name as sysctl(8) takes it.', type: str, required: true}
      value: {description: Value., type: str, required: true}
      state: {description: Whether it is wanted., type: str, choices: [present, absent]}
"""

EXAMPLES = r"""
- name: Two namespaces joined by a veth pair
  podlab_topology:
    namespaces:
      - {name: red, loopback: true}
      - {name: blue, loopback: true}
    links:
      - {name: veth0, netns: red, kind: veth, up: true, addresses: [11.11.11.2/24],
         peer: {name: veth1, netns: blue, up: true, addresses: [11.11.11.3/24]}}

- name: Take them down
  podlab_topology:
    state: absent
    namespaces:
      - {name: red}
      - {name: blue}
"""

RETURN = r"""
changed:
  description: Whether any object was, or in check mode would be, changed.
  returned: always
  type: bool
  sample: true
topology:
  description: The namespaces and links of the options that are there now.
  returned: always
  type: dict
  sample: {"namespaces": ["red"], "links": [{"netns": "red", "name": "veth0", "kind": "veth", "up": true, "mtu": 1500,
           "address": "02:00:00:00:00:01", "master": null, "altnames": [], "addresses": ["11.11.11.2/24"]}]}
commands:
  description: The commands that a person would type, in order, also in check mode.
  returned: always
  type: list
  elements: list
  sample: [["ip", "netns", "add", "red"], ["ip", "-n", "red", "link", "set", "dev", "lo", "up"]]
results:
  description: What was changed, per object.
  returned: always
  type: list
  elements: dict
  sample: [{"name": "netns red", "changed": true, "steps": ["netns.add netns red: missing"]}]
diff:
  description: The managed properties before and after, per changed object.
  returned: in diff mode
  type: list
  elements: dict
  sample: [{"before_header": "netns red", "after_header": "netns red", "before": {"state": "absent"},
            "after": {"state": "present"}}]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab.module import run
from ansible.module_utils.podlab.topology import Topology
from ansible.module_utils.podlab.topology_kernel import Session
from ansible.module_utils.podlab.topology_options import OPTIONS


def argument_spec() -> dict[str, Any]:
    """The options, as DOCUMENTATION has them."""
    return OPTIONS


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    with Session() as session:
        topology = Topology(module.params, session)
        run(module, "topology", topology.items, topology.state)


if __name__ == "__main__":
    main()

"""The iptables rules by which ports of a node lead to ports of a pod, as the CNI plugin portmap writes them. Pure.

Source: containernetworking/plugins, plugins/meta/portmap (portmap_iptables.go, chain.go, utils.go). The supervisor
loads this file: nothing that costs memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NETWORK = "kindnet"
DNAT, SETMARK, MASQ = "CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ"
# portmap's default markMasqBit is 13.
_MARK = "0x2000/0x2000"
# What one match of multiport takes.
_PORTS = 15
_CHAIN_LIMIT = 28
_GUARD = "podlab host ports: nothing that comes from the pod is for 127.0.0.0/8"

# The rules that all pods share: (table, how it is added, chain, the rest).
_SHARED = (
    ("PREROUTING", "-A", f"-m addrtype --dst-type LOCAL -j {DNAT}"),
    ("OUTPUT", "-A", f"-m addrtype --dst-type LOCAL -j {DNAT}"),
    ("POSTROUTING", "-I", f'-m comment --comment "CNI portfwd requiring masquerade" -j {MASQ}'),
)
_OWN = {
    DNAT: (),
    SETMARK: (f'-m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark {_MARK}',),
    MASQ: (f"-m mark --mark {_MARK} -j MASQUERADE",),
}


def chain_name(digest: str) -> str:
    """The pod's own chain. digest: SHA-512 of the network's name and the sandbox's id, in hex digits."""
    return f"CNI-DN-{digest}"[:_CHAIN_LIMIT]


def entries(identity: str, chain: str, ports: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rules of CNI-HOSTPORT-DNAT that lead to the pod's chain."""
    comment = f'-m comment --comment "dnat name: \\"{NETWORK}\\" id: \\"{identity}\\""'
    made = []
    for protocol in dict.fromkeys(port["protocol"].lower() for port in ports):
        numbers = sorted({port["port"] for port in ports if port["protocol"].lower() == protocol})
        for first in range(0, len(numbers), _PORTS):
            words = ",".join(str(number) for number in numbers[first : first + _PORTS])
            made.append(f"-A {DNAT} -p {protocol} {comment} -m multiport --destination-ports {words} -j {chain}")
    return made


def translations(chain: str, address: str, subnet: str, ports: Iterable[Mapping[str, Any]]) -> list[str]:
    """The rules of the pod's chain. subnet: the pod network whose members need another source to be answered."""
    made = []
    for port in ports:
        base = f"-A {chain} -p {port['protocol'].lower()} --dport {port['port']}"
        if port["address"] != "0.0.0.0":
            base += f" -d {port['address']}"
        made += [f"{base} -s {source} -j {SETMARK}" for source in (subnet, "127.0.0.1")]
        made.append(f"{base} -j DNAT --to-destination {address}:{port['container_port']}")
    return made


def guard(veth: str) -> str:
    """What 127.0.0.1 needs: its link has route_localnet, by which the pod itself could reach the node's loopback."""
    words = f'-m comment --comment "{_GUARD}" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP'
    return f"-I INPUT -d 127.0.0.0/8 -i {veth} {words}"


def shared(saved: str) -> tuple[list[str], list[str]]:
    """(chains, rules) that all pods share and that are not there. saved: output of iptables-save."""
    lines = saved.splitlines()
    chains = [chain for chain in _OWN if not any(line.startswith(f":{chain} ") for line in lines)]
    rules = [f"-A {chain} {rule}" for chain in chains for rule in _OWN[chain]]
    for hook, how, rule in _SHARED:
        target = rule.split()[-1]
        if not any(line.startswith(f"-A {hook} ") and line.endswith(f" -j {target}") for line in lines):
            rules.append(f"{how} {hook} {rule}")
    return chains, rules


def open_text(saved: str, chain: str, own: Iterable[str], veth: str) -> str:
    """Input for iptables-restore --noflush: the pod's chain with its own rules, and what is missing of the shared."""
    chains, rules = shared(saved)
    declared = [f":{name} - [0:0]" for name in (*chains, chain)]
    return _text("nat", [*declared, *rules, *own]) + _text("filter", [guard(veth)])


def close_text(saved: str, chains: Iterable[str], veths: Iterable[str]) -> str:
    """One input for iptables-restore that takes the pod's rules away; empty when there are none."""
    lines = saved.splitlines()
    nat: list[str] = []
    for chain in chains:
        nat += [f"-D {line[3:]}" for line in lines if line.startswith(f"-A {DNAT} ") and line.endswith(f" -j {chain}")]
        if any(line.startswith(f":{chain} ") for line in lines):
            nat = [f":{chain} - [0:0]", *nat, f"-X {chain}"]
    places = [f" -i {veth} " for veth in veths]
    guards = [
        f"-D {line[3:]}"
        for line in lines
        if line.startswith("-A INPUT ") and _GUARD in line and any(place in line for place in places)
    ]
    return (_text("nat", nat) if nat else "") + (_text("filter", guards) if guards else "")


def _text(table: str, lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in (f"*{table}", *lines, "COMMIT"))

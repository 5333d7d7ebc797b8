"""Who uses which IPv4 range on this machine, and which range is free for a lab's node network.

Reads /proc/net/route and /proc/net/fib_trie (proc(5), net/ipv4/fib_trie.c) and the state of other labs; needs no root:
what cannot be read then is the state of other labs, whose routes are seen all the same.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..errors import PodlabError, Problem, refuse

# As Docker does for its networks, which is where kind's 172.18.0.0/16 comes from (172.17 is docker0).
CANDIDATES = (
    *(f"172.{second}.0.0/16" for second in range(18, 32)),
    *(f"192.168.{third}.0/20" for third in range(0, 256, 16)),
)
# A route this wide is a way out (a VPN's 0.0.0.0/1), not somebody's network.
WIDEST_OWNED = 8

_RTF_REJECT = 0x0200
_TRIE_PREFIX = re.compile(r"\s*\|-- (?P<address>[0-9.]+)\s*")
_TRIE_LOCAL = re.compile(r"\s*/32 host LOCAL\s*")


class Owner(NamedTuple):
    """A range and who has it: ("172.17.0.0/16", "route 172.17.0.0/16 dev docker0")."""

    subnet: str
    owner: str
    link: str = ""


def parse_routes(text: str) -> list[Owner]:
    """The owned ranges of /proc/net/route: every route but default ones."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8:
            continue
        link, destination, flags, mask = fields[0], fields[1], int(fields[3], 16), fields[7]
        bits = bin(int(mask, 16)).count("1")
        if bits < WIDEST_OWNED:
            continue
        subnet = f"{_address(destination)}/{bits}"
        kind = "unreachable route" if flags & _RTF_REJECT else "route"
        found.append(Owner(subnet, f"{kind} {subnet}" + (f" dev {link}" if link != "*" else ""), link))
    return found


def _address(word: str) -> str:
    # The kernel prints the 32 bits as a number of this machine, which they are not: they are in network order.
    return socket.inet_ntoa(struct.pack("=I", int(word, 16)))


def parse_addresses(text: str) -> list[Owner]:
    """The machine's own addresses from /proc/net/fib_trie, loopback left out."""
    found: dict[str, None] = {}
    address = ""
    for line in text.splitlines():
        match = _TRIE_PREFIX.fullmatch(line)
        if match:
            address = match["address"]
        elif address and _TRIE_LOCAL.fullmatch(line) and not address.startswith("127."):
            found[address] = None
    return [Owner(f"{address}/32", f"address {address} of this machine") for address in found]


def lab_subnets(run_root: str) -> dict[str, str]:
    """Lab name -> node subnet, of every lab under run_root (/run/podlab) whose cluster.json can be read."""
    found = {}
    for name in _names(run_root):
        try:
            with open(f"{run_root}/{name}/cluster.json", encoding="utf-8") as file:
                found[name] = str(ipaddress.IPv4Network(json.load(file)["node_subnet"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # another user's, half made, or none
    return found


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


class InUse(NamedTuple):
    """What the machine's ranges are used for, seen from one lab.

    own: the node subnet that this lab has now, "" when it is not up. others: everybody else's ranges.
    """

    own: str
    others: list[Owner]


def in_use(cluster: str, uplink: str, run_root: str) -> InUse:
    """Look at the machine. uplink: the name of this lab's link on the machine, whose route is its own."""
    return sort_out(
        cluster, uplink, parse_routes(_read("route")), parse_addresses(_read("fib_trie")), lab_subnets(run_root)
    )


def _read(name: str) -> str:
    # Of this thread: another one may be in another network namespace.
    try:
        with open(f"/proc/thread-self/net/{name}", encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def sort_out(
    cluster: str, uplink: str, routes: Iterable[Owner], addresses: Iterable[Owner], labs: dict[str, str]
) -> InUse:
    """What is this lab's and what is others', labs named before the routes that they made."""
    routes = list(routes)
    own_routes = [route.subnet for route in routes if route.link == uplink]
    own = labs.get(cluster) or (own_routes[0] if own_routes else "")
    others = [Owner(subnet, f"lab {name!r}") for name, subnet in labs.items() if name != cluster]
    others += [route for route in routes if route.link != uplink]
    # An address within a route's range adds nothing, and the uplink's own address is within its route's.
    covered = [route.subnet for route in routes]
    others += [address for address in addresses if not any(overlap(address.subnet, range_) for range_ in covered)]
    return InUse(own, others)


def overlap(one: str, other: str) -> bool:
    """True when two IPv4 ranges share an address."""
    return ipaddress.IPv4Network(one, strict=False).overlaps(ipaddress.IPv4Network(other, strict=False))


def node_subnet(wanted: str, nodes: int, config_ranges: dict[str, str], used: InUse) -> str:
    """The node network's range: the one set by hand, else the one that the lab has, else the first free one.

    wanted: set by hand, or "". nodes: how many. config_ranges: name -> CIDR of the config's other ranges (podSubnet).
    Raises PodlabError with every reason why the range will not do, naming who has it.
    """
    taken = [*used.others, *_named(config_ranges)]
    free = next((one for one in CANDIDATES if not any(overlap(one, owner.subnet) for owner in taken)), "")
    if wanted:
        refuse(_faults(wanted, nodes, taken, free), "podlab_node_subnet will not do")
        return wanted
    if used.own:
        refuse(_clashes(used.own, _named(config_ranges), "Take the lab down first: its node network has this range"))
        return used.own
    if not free:
        raise PodlabError("No range is free for the node network. Set podlab_node_subnet to one that you can spare")
    return free


def _named(config_ranges: dict[str, str]) -> list[Owner]:
    return [Owner(subnet, f"{name} {subnet}") for name, subnet in config_ranges.items()]


def _faults(wanted: str, nodes: int, taken: list[Owner], free: str) -> list[Problem]:
    place = "podlab_node_subnet"
    example = f"Write it like {CANDIDATES[0]}"
    try:
        network = ipaddress.IPv4Network(wanted, strict=False)
    except ValueError:
        return [Problem(place, f"must be an IPv4 CIDR, not {wanted!r}", example)]
    if "/" not in wanted or str(network) != wanted:
        return [Problem(place, f"must be a network's address and bits, not {wanted!r}", f"Write {network}")]
    if network.is_loopback or network.is_multicast or network.is_reserved or network.prefixlen < WIDEST_OWNED:
        return [Problem(place, f"{wanted} cannot be a network of machines", example)]
    if network.num_addresses < nodes + 3:
        bits = 32 - (nodes + 2).bit_length()
        return [Problem(place, f"{wanted} has no room for a gateway and {nodes} nodes", f"Use a /{bits} or larger")]
    remedy = f"Free is {free}" if free else "Choose another"
    return list(_clashes(wanted, taken, remedy))


def _clashes(subnet: str, owners: Iterable[Owner], remedy: str) -> Iterator[Problem]:
    for owner in owners:
        if overlap(subnet, owner.subnet):
            yield Problem("podlab_node_subnet", f"{subnet} overlaps {owner.owner}", remedy)

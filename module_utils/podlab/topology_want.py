"""What a topology should be: the options of podlab_topology as flat records, with every value checked. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from . import topology_values as values
from .errors import Problem

MACHINE = ""  # the name of the machine's own namespace in all records


class Space(NamedTuple):
    """A network namespace."""

    place: str
    name: str
    absent: bool
    loopback: bool | None
    sysctls: Mapping[str, str]


class End(NamedTuple):
    """One device. In all mappings only what the user set."""

    place: str
    netns: str
    name: str
    kind: str
    up: bool | None
    altname: str | None
    props: Mapping[str, Any]  # mtu, address, master ("" = none), addrgenmode
    data: Mapping[str, Any]  # options of its kind
    port: Mapping[str, Any]  # options as a bridge port
    addresses: tuple[str, ...] | None


class Link(NamedTuple):
    """A device, or the two of a veth pair; the first end is where it is made."""

    place: str
    absent: bool
    ends: tuple[End, ...]


class Row(NamedTuple):
    """An address, a route, a neighbour, a forwarding entry or a sysctl."""

    place: str
    absent: bool
    netns: str
    fields: Mapping[str, Any]  # only what the user set


class Want(NamedTuple):
    """A whole topology."""

    spaces: tuple[Space, ...]
    links: tuple[Link, ...]
    addresses: tuple[Row, ...]
    routes: tuple[Row, ...]
    neighbours: tuple[Row, ...]
    fdb: tuple[Row, ...]
    sysctls: tuple[Row, ...]

    def rows(self) -> Iterator[Row]:
        """Every row that is in a namespace and no device."""
        for table in (self.addresses, self.routes, self.neighbours, self.fdb, self.sysctls):
            yield from table

    def ends(self) -> Iterator[End]:
        """Every device."""
        for link in self.links:
            yield from link.ends

    def namespaces(self) -> set[str]:
        """Every namespace that is named anywhere, the machine's own among them when it is used."""
        return {space.name for space in self.spaces} | {end.netns for end in self.ends()} | {
            row.netns for row in self.rows()
        }  # fmt: skip


Check = Callable[[Any], Any]

LINK_CHECKS: Mapping[str, Check] = {
    "mtu": values.mtu,
    "address": values.mac,
    "master": lambda value: values.link_name(value) if value else "",
    "addrgenmode": str,
}
VXLAN_CHECKS: Mapping[str, Check] = {
    "id": values.between(1, 16777215),
    "dstport": values.between(1, 65535),
    "learning": bool,
    "local": values.one_ip,
    "dev": values.link_name,
    "ttl": values.between(0, 255),
}
BRIDGE_CHECKS: Mapping[str, Check] = {
    "stp": bool,
    "vlan_filtering": bool,
    "mcast_snooping": bool,
    "ageing_time": values.between(0, 100_000_000),
    "group_fwd_mask": values.between(0, 65535),
    "nf_call_iptables": bool,
    "nf_call_ip6tables": bool,
    "nf_call_arptables": bool,
}
PORT_CHECKS: Mapping[str, Check] = dict.fromkeys(("hairpin", "learning", "flood", "neigh_suppress", "isolated"), bool)
DATA_CHECKS = {"bridge": BRIDGE_CHECKS, "vxlan": VXLAN_CHECKS}

# option -> (key that names a row within its namespace, checks)
ROWS: Mapping[str, tuple[tuple[str, ...], Mapping[str, Check]]] = {
    "addresses": (
        ("dev", "address"),
        {"dev": values.link_name, "address": values.interface, "scope": str, "noprefixroute": bool, "nodad": bool},
    ),
    "routes": (
        ("dst", "metric"),
        {
            "dst": str,
            "via": values.one_ip,
            "dev": values.link_name,
            "scope": str,
            "src": values.one_ip,
            "onlink": bool,
            "metric": values.between(0, 4294967295),
            "type": str,
        },
    ),
    "neighbours": (("dev", "dst"), {"dev": values.link_name, "dst": values.one_ip, "address": values.mac}),
    "fdb": (
        ("dev", "address", "dst"),
        {"dev": values.link_name, "address": values.fdb_mac, "dst": values.one_ip},
    ),
    "sysctls": (("name",), {"name": values.sysctl_name, "value": str}),
}


class Reader:
    """Turns option values into records and notes what is wrong on the way."""

    def __init__(self, default_state: str) -> None:
        self.problems: list[Problem] = []
        self.default_state = default_state

    @contextlib.contextmanager
    def at(self, place: str) -> Iterator[None]:
        """A check inside that raises ValueError is a problem at place."""
        try:
            yield
        except ValueError as error:
            self.problems.append(Problem(place, str(error)))

    def fields(self, place: str, given: Mapping[str, Any], checks: Mapping[str, Check]) -> dict[str, Any]:
        """What is set of given, checked."""
        found: dict[str, Any] = {}
        for key, check in checks.items():
            if given.get(key) is not None:
                with self.at(f"{place}.{key}"):
                    found[key] = check(given[key])
        return found

    def netns(self, place: str, value: str | None) -> str:
        """A namespace's name; the machine's own when there is none."""
        if value is None:
            return MACHINE
        with self.at(f"{place}.netns"):
            values.netns_name(value)
        return value

    def absent(self, given: Mapping[str, Any]) -> bool:
        """Whether the entry, or else the whole topology, is to go."""
        return (given.get("state") or self.default_state) == "absent"

    def space(self, place: str, given: Mapping[str, Any]) -> Space:
        """One entry of namespaces."""
        with self.at(f"{place}.name"):
            values.netns_name(given["name"])
        settings = {}
        for name, value in (given.get("sysctls") or {}).items():
            with self.at(f"{place}.sysctls"):
                settings[values.sysctl_name(name)] = str(value)
        return Space(place, given["name"], self.absent(given), given.get("loopback"), settings)

    def link(self, place: str, given: Mapping[str, Any]) -> Link:
        """One entry of links."""
        kind, peer = given["kind"], given.get("peer")
        ends = [self.end(place, given, kind)]
        if (kind == "veth") != bool(peer):
            rule = "is required: a veth pair has two ends" if kind == "veth" else f"is for veth only, not for {kind}"
            self.problems.append(Problem(f"{place}.peer", rule))
        elif peer:
            ends.append(self.end(f"{place}.peer", peer, kind))
            if ends[1].netns == MACHINE:  # made where its name is visible to the person who types it
                ends.reverse()
        for option in DATA_CHECKS:
            if given.get(option) and option != kind:
                self.problems.append(Problem(f"{place}.{option}", f"is for {option} only, not for {kind}"))
        if kind == "vxlan" and "id" not in ends[0].data and (given.get("vxlan") or {}).get("id") is None:
            self.problems.append(Problem(f"{place}.vxlan.id", "is required for a vxlan"))
        return Link(place, self.absent(given), tuple(ends))

    def end(self, place: str, given: Mapping[str, Any], kind: str) -> End:
        """One device of an entry of links."""
        netns = self.netns(place, given.get("netns"))
        with self.at(f"{place}.name"):
            values.link_name(given["name"])
        return End(
            place=place,
            netns=netns,
            name=given["name"],
            kind=kind,
            up=given.get("up"),
            altname=self._altname(place, given.get("altname"), netns),
            props=self.fields(place, given, LINK_CHECKS),
            data=self.fields(f"{place}.{kind}", given.get(kind) or {}, DATA_CHECKS.get(kind, {})),
            port=self.fields(f"{place}.port", given.get("port") or {}, PORT_CHECKS),
            addresses=self._addresses(place, given.get("addresses")),
        )

    def rows(self, option: str, given: Sequence[Mapping[str, Any]]) -> tuple[Row, ...]:
        """All entries of addresses, routes, neighbours, fdb or sysctls."""
        _, checks = ROWS[option]
        found = []
        for number, entry in enumerate(given):
            place = f"{option}[{number}]"
            netns = self.netns(place, entry.get("netns"))
            fields = self.fields(place, entry, checks)
            if option == "routes":
                with self.at(f"{place}.dst"):
                    fields["dst"] = values.destination(entry["dst"], fields.get("via"))
            found.append(Row(place, self.absent(entry), netns, fields))
        return tuple(found)

    def _altname(self, place: str, value: str | None, netns: str) -> str | None:
        if value is not None:
            with self.at(f"{place}.altname"):
                values.altname(value)
        if netns == MACHINE and not (value or "").startswith(values.MARK):
            said = "is required" if value is None else f"must begin with {values.MARK}, not {value!r}"
            remedy = "It marks a link in the machine's own namespace as ours."
            self.problems.append(Problem(f"{place}.altname", said, remedy))
        return value

    def _addresses(self, place: str, given: Sequence[str] | None) -> tuple[str, ...] | None:
        if given is None:
            return None
        found = []
        for number, address in enumerate(given):
            with self.at(f"{place}.addresses[{number}]"):
                found.append(values.interface(address))
        return tuple(found)


def read(params: Mapping[str, Any]) -> tuple[Want, list[Problem]]:
    """The records of podlab_topology's options, and what is wrong with single values."""
    reader = Reader(params.get("state") or "present")

    def each(option: str, form: Callable[[str, Mapping[str, Any]], Any]) -> tuple[Any, ...]:
        return tuple(form(f"{option}[{number}]", entry) for number, entry in enumerate(params.get(option) or ()))

    want = Want(
        spaces=each("namespaces", reader.space),
        links=each("links", reader.link),
        **{option: reader.rows(option, params.get(option) or ()) for option in ROWS},
    )
    return want, reader.problems

"""What the lab's DNS server answers: a pure function of the records and a question.

Standard library only and no import of the rest: the server's image carries this file.
Sources: RFC 1034 4.3.2, RFC 2308, RFC 8020; Kubernetes DNS-Based Service Discovery 1.1.0; CoreDNS plugin/kubernetes
(pods insecure, SOA, name server).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Union

NOERROR, NXDOMAIN = "NOERROR", "NXDOMAIN"
# Of every record and of the SOA, so that a name that does not exist is asked again as soon as one that does.
TTL = 30
# refresh, retry, expire as CoreDNS has them; the last is how long a negative answer may be kept.
_SOA_TIMES = "7200 1800 86400 30"
_REVERSE = (".in-addr.arpa", ".ip6.arpa")
_LONGEST_CHAIN = 8

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class Record(NamedTuple):
    """One resource record of class IN. name without the last dot, as it is to be written; data as in a zone file."""

    name: str
    kind: str
    data: str
    ttl: int = TTL


class Answer(NamedTuple):
    """rcode, and the three sections. beyond: where a CNAME leads out of what we know, for an upstream to follow."""

    rcode: str
    answers: Sequence[Record] = ()
    authority: Sequence[Record] = ()
    additional: Sequence[Record] = ()
    beyond: str = ""


class Zone(NamedTuple):
    """The records, ready to be looked up.

    names: lower-case name -> type -> records; a name that is there only because something is below it has no types.
    networks: addresses whose reverse names are ours. serial: of the SOA.
    """

    name: str
    names: Mapping[str, Mapping[str, Sequence[Record]]]
    namespaces: frozenset[str]
    networks: Sequence[Network]
    serial: int = 1


def parse(text: str, serial: int = 1) -> Zone:
    """The document of kube/dns.py. Raises ValueError for anything else."""
    try:
        whole = json.loads(text)
        zone = str(whole["zone"]).lower()
        namespaces = frozenset(str(name) for name in whole["namespaces"])
        networks = [ipaddress.ip_network(text) for text in whole["networks"]]
        names: dict[str, dict[str, list[Record]]] = {}
        for line in whole["records"]:
            name, ttl, _, kind, data = line.split(" ", 4)
            record = Record(name.rstrip("."), kind, data, int(ttl))
            names.setdefault(record.name.lower(), {}).setdefault(kind, []).append(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"these are no DNS records: {error!r}") from error
    above = [zone, f"svc.{zone}", f"pod.{zone}"]
    above += [f"{namespace}.{kind}.{zone}" for namespace in namespaces for kind in ("svc", "pod")]
    for name in (*above, *list(names)):
        _add_parents(names, name, zone)
    return Zone(zone, names, namespaces, networks, serial)


def _add_parents(names: dict[str, dict[str, list[Record]]], name: str, zone: str) -> None:
    """A name exists when something below it does (RFC 8020)."""
    names.setdefault(name, {})
    above = name.partition(".")[2]
    # One that is there already has what is above it, or gets it when its turn comes.
    while above not in names and (above == zone or above.endswith((f".{zone}", *_REVERSE))):
        names[above] = {}
        above = above.partition(".")[2]


def apex(zone: Zone, qname: str) -> str:
    """The zone of ours that a name is in: the cluster's, or the reverse zone of one of its networks; else empty."""
    name = qname.lower()
    if name == zone.name or name.endswith(f".{zone.name}"):
        return zone.name
    if not name.endswith(_REVERSE):
        return ""
    for network in zone.networks:
        above = _reverse_apex(network, name)
        if above:
            return above
    # An endpoint somewhere else still has its name; what is beside it is not ours.
    return name if zone.names.get(name) else ""


def answer(zone: Zone, qname: str, kind: str) -> Answer:
    """The answer to a question about a name that apex() says is ours.

    qname: without the last dot; answers have it as it was written. kind: "A", "SRV", …; "ANY" for all that there is.
    """
    home = apex(zone, qname)
    answers: list[Record] = []
    name = qname
    for _ in range(_LONGEST_CHAIN):
        kinds = _kinds(zone, home, name)
        if kinds is None:
            return Answer(NXDOMAIN, answers, [_soa(zone, home)])
        found = [record for own, records in kinds.items() if kind in (own, "ANY") for record in records]
        alias = kinds.get("CNAME", ())
        if found or not alias:
            answers += [record._replace(name=name) for record in found]
            return _whole(zone, home, answers, bool(found))
        answers.append(alias[0]._replace(name=name))
        name = alias[0].data.rstrip(".")
        if not apex(zone, name):
            return Answer(NOERROR, answers, beyond=name)
        home = apex(zone, name)
    return Answer(NOERROR, answers)


def _whole(zone: Zone, home: str, answers: Sequence[Record], found: bool) -> Answer:
    if not found:
        return Answer(NOERROR, answers, [_soa(zone, home)])
    targets = dict.fromkeys(record.data.split()[-1].rstrip(".") for record in answers if record.kind in ("SRV", "NS"))
    return Answer(NOERROR, answers, additional=list(_addresses(zone, targets)))


def _addresses(zone: Zone, names: Iterable[str]) -> Iterable[Record]:
    for name in names:
        kinds = zone.names.get(name.lower(), {})
        yield from (*kinds.get("A", ()), *kinds.get("AAAA", ()))


def _kinds(zone: Zone, home: str, qname: str) -> Mapping[str, Sequence[Record]] | None:
    """The records of one name by type; None for a name that does not exist."""
    name = qname.lower()
    found: Mapping[str, Sequence[Record]] | None = zone.names.get(name)
    if found is None:
        if name == home:
            found = {}
        elif name.endswith(f".pod.{zone.name}"):
            found = _pod(zone, name)
    if name == home and found is not None:
        found = {**found, "SOA": [_soa(zone, home)]}
    return found


def _pod(zone: Zone, name: str) -> Mapping[str, Sequence[Record]] | None:
    """`a-b-c-d.NAMESPACE.pod.ZONE`: the address in the name, whether there is such a pod or not."""
    labels = name[: -len(f".pod.{zone.name}")].split(".")
    if len(labels) != 2 or labels[1] not in zone.namespaces or "%" in labels[0]:
        return None
    dashed = labels[0]
    text = dashed.replace("-", "." if dashed.count("-") == 3 and "--" not in dashed else ":")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    kind = "A" if address.version == 4 else "AAAA"
    return {kind: [Record(name, kind, str(address))]}


def _soa(zone: Zone, home: str) -> Record:
    data = f"ns.dns.{zone.name}. hostmaster.{zone.name}. {zone.serial} {_SOA_TIMES}"
    return Record(home, "SOA", data)


def _reverse_apex(network: Network, name: str) -> str:
    """The shortest name on a label's border that holds this name and nothing outside of the network; else empty."""
    bits, suffix = (8, ".in-addr.arpa") if network.version == 4 else (4, ".ip6.arpa")
    needed = -(-network.prefixlen // bits)
    if not name.endswith(suffix):
        return ""
    labels = name[: -len(suffix)].split(".")[::-1]
    if len(labels) < needed or needed == 0:
        return ""
    try:
        value = 0
        for label in labels[:needed]:
            value = value << bits | _digit(label, bits)
    except ValueError:
        return ""
    left = needed * bits - network.prefixlen
    if value >> left != int(network.network_address) >> (network.max_prefixlen - network.prefixlen):
        return ""
    return ".".join(labels[:needed][::-1]) + suffix


def _digit(label: str, bits: int) -> int:
    """One label of a reverse name as a number. Raises ValueError."""
    number = int(label, 10 if bits == 8 else 16)
    if label != (str(number) if bits == 8 else f"{number:x}") or number >= 1 << bits:
        raise ValueError(label)
    return number

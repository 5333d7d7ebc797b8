"""The steps for what is in a namespace beside its devices: settings, addresses, routes, neighbours, forwarding. Pure.

Every function changes the Space that it is given to what will be there when its steps are done.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from . import topology_argv as argv
from .step import Step
from .topology_have import Route, Space
from .topology_step import ABSENT, Change, Kernel, differing, place, sysctl_step, target, why_of
from .topology_want import Row

# An address that may go, or not, with another one that is deleted.
SHAKEN = ("unknown", False)


def rows_away(option: str, rows: Iterable[Row], have: Mapping[str, Space]) -> list[Row]:
    """The rows that are absent, in the order in which they must go: the later addresses of a network first."""
    absent = [row for row in rows if row.absent]
    if option == "addresses":
        order = {(netns, *key): at for netns, space in have.items() for at, key in enumerate(space.addresses)}
        absent.sort(key=lambda row: -order.get((row.netns, row.fields["dev"], row.fields["address"]), 0))
    return absent


def plan_row(option: str, row: Row, space: Space, kernel: Kernel) -> Change:
    """The change for one entry of the option of that name."""
    return _ROWS[option](row, space, kernel)


def address_steps(
    space: Space, netns: str, dev: str, wanted: Iterable[str], keep: set[str], kernel: Kernel
) -> list[Step]:
    """Make dev's addresses those of wanted and keep; what the kernel made itself stays."""
    wanted = list(wanted)
    there = [(address, scope) for (device, address), (scope, _) in space.addresses.items() if device == dev]
    steps = [
        _address_delete(space, netns, dev, address, "not wanted", kernel)
        for address, scope in reversed(there)  # the later ones of a network hang on the first
        if address not in wanted and address not in keep and not _kernels_own(address, scope)
    ]
    for address in wanted:
        if space.addresses.get((dev, address), SHAKEN) == SHAKEN:
            steps.append(_address_set(space, netns, dev, address, {}, "missing", kernel))
    return steps


def _kernels_own(address: str, scope: str) -> bool:
    """Link-local IPv6 addresses and the loopback ones, which come with the device."""
    return (scope == "link" and address.startswith("fe80:")) or address in ("127.0.0.1/8", "::1/128")


def _address_set(
    space: Space, netns: str, dev: str, address: str, fields: Mapping[str, Any], why: str, kernel: Kernel
) -> Step:
    space.addresses[dev, address] = (fields.get("scope", "global"), fields.get("noprefixroute", False))
    words = argv.ip(netns, "address", "replace", *argv.address_words(address, dev, fields))
    args = {"netns": netns, "dev": dev, "address": address}
    args.update({key: fields[key] for key in ("scope", "noprefixroute", "nodad") if fields.get(key) is not None})
    return Step("address.add", f"{address} on {target(netns, dev)}", words, why, kernel.address_set, args)


def _address_delete(space: Space, netns: str, dev: str, address: str, why: str, kernel: Kernel) -> Step:
    """Delete an address, and with it the routes that it is the source of.

    In IPv4 the later addresses of its network go too, unless net.ipv4.conf.*.promote_secondaries is set.
    """
    gone = ipaddress.ip_interface(address)
    keys = [key for key in space.addresses if key[0] == dev]
    for key in keys[keys.index((dev, address)) + 1 :]:
        if gone.version == 4 and ipaddress.ip_interface(key[1]).network == gone.network:
            space.addresses[key] = SHAKEN
    del space.addresses[dev, address]
    space.routes[:] = [route for route in space.routes if route.src != str(gone.ip)]
    words = argv.ip(netns, "address", "delete", address, "dev", dev)
    args = {"netns": netns, "dev": dev, "address": address}
    return Step("address.delete", f"{address} on {target(netns, dev)}", words, why, kernel.address_delete, args)


def _address(row: Row, space: Space, kernel: Kernel) -> Change:
    dev, address = row.fields["dev"], row.fields["address"]
    name = f"address {address} on {target(row.netns, dev)}"
    there = space.addresses.get((dev, address))
    have = {"scope": there[0], "noprefixroute": there[1]} if there else {}
    if row.absent:
        steps = [_address_delete(space, row.netns, dev, address, "not wanted", kernel)] if there else []
        return Change(name, steps, have or ABSENT, ABSENT)
    wanted = {key: row.fields[key] for key in ("scope", "noprefixroute") if key in row.fields}
    before = {key: have.get(key) for key in wanted} or {"state": "present"} if there else ABSENT
    steps, why = [], "missing"
    if there and there != SHAKEN and differing(wanted, have):
        why = why_of(differing(wanted, have), have)
        steps.append(_address_delete(space, row.netns, dev, address, why, kernel))
    if not there or there == SHAKEN or steps:
        steps.append(_address_set(space, row.netns, dev, address, row.fields, why, kernel))
    return Change(name, steps, before, wanted or {"state": "present"})


def _agrees(route: Route, fields: Mapping[str, Any]) -> bool:
    """Whether a route is what fields say; IPv6 knows no scope."""
    return all(
        getattr(route, key) == value for key, value in fields.items() if not (key == "scope" and ":" in route.dst)
    )


def _route(row: Row, space: Space, kernel: Kernel) -> Change:
    fields = row.fields
    name = f"route {fields['dst']} {place(row.netns)}"
    rivals = [
        route
        for route in space.routes
        if route.dst == fields["dst"] and fields.get("metric", route.metric) == route.metric
    ]
    agreeing = [route for route in rivals if _agrees(route, fields)]
    args = {"netns": row.netns, **fields}
    family = argv.family(fields)
    if row.absent:
        steps = [
            Step(
                "route.delete", name, argv.ip(row.netns, *family, "route", "delete", *argv.route_words(fields)),
                "not wanted", kernel.route_delete, args,
            )
            for _ in agreeing
        ]  # fmt: skip
        space.routes[:] = [route for route in space.routes if route not in agreeing]
        return Change(name, steps, agreeing[0]._asdict() if agreeing else ABSENT, ABSENT)
    if agreeing:
        return Change(name, [], dict(fields), dict(fields))
    have = {key: getattr(rivals[0], key) for key in fields} if rivals else {}
    step = Step(
        "route.set",
        name,
        argv.ip(row.netns, *family, "route", "replace", *argv.route_words(fields)),
        why_of(differing(fields, have), have) if rivals else "missing",
        kernel.route_set,
        args,
    )
    return Change(name, [step], have or ABSENT, dict(fields))


def _neighbour(row: Row, space: Space, kernel: Kernel) -> Change:
    dev, dst, mac = row.fields["dev"], row.fields["dst"], row.fields.get("address")
    name = f"neighbour {dst} on {target(row.netns, dev)}"
    there = space.neighbours.get((dev, dst))
    before = {"address": there} if there else ABSENT
    args = {"netns": row.netns, "dev": dev, "dst": dst}
    if row.absent:
        words = argv.ip(row.netns, "neighbour", "delete", dst, "dev", dev)
        step = Step("neighbour.delete", name, words, "not wanted", kernel.neighbour_delete, args)
        return Change(name, [step] if there else [], before, ABSENT)
    words = argv.ip(row.netns, "neighbour", "replace", dst, "lladdr", str(mac), "dev", dev, "nud", "permanent")
    why = why_of({"address": mac}, {"address": there}) if there else "missing"
    step = Step("neighbour.set", name, words, why, kernel.neighbour_set, {**args, "address": mac})
    return Change(name, [] if there == mac else [step], before, {"address": mac})


def _fdb(row: Row, space: Space, kernel: Kernel) -> Change:
    dev, mac, dst = row.fields["dev"], row.fields["address"], row.fields.get("dst", "")
    name = f"fdb {mac} on {target(row.netns, dev)}" + (f" to {dst}" if dst else "")
    entry = (dev, mac, dst)
    there = entry in space.fdb
    present = {"state": "present"}
    if row.absent:
        steps = [_fdb_delete(row.netns, entry, "not wanted", kernel)] if there else []
        return Change(name, steps, present if there else ABSENT, ABSENT)
    floods = not mac.strip("0:")
    rivals = sorted(other for other in space.fdb if other[:2] == entry[:2] and bool(other[2]) == bool(dst))
    if there:
        return Change(name, [], present, present)
    steps = [] if floods else [_fdb_delete(row.netns, other, f"dst {other[2]} -> {dst}", kernel) for other in rivals]
    ends = ("dst", dst) if dst else ("master", "static")
    words = argv.bridge(row.netns, "fdb", "append" if floods else "add", mac, "dev", dev, *ends)
    args = {"netns": row.netns, "dev": dev, "address": mac, "dst": dst}
    steps.append(Step("fdb.add", name, words, "missing", kernel.fdb_add, args))
    space.fdb.difference_update([] if floods else rivals)
    space.fdb.add(entry)
    return Change(name, steps, {"dst": [other[2] for other in rivals]} if rivals else ABSENT, {"dst": dst})


def _fdb_delete(netns: str, entry: tuple[str, str, str], why: str, kernel: Kernel) -> Step:
    dev, mac, dst = entry
    words = argv.bridge(netns, "fdb", "delete", mac, "dev", dev, *(("dst", dst) if dst else ("master",)))
    args = {"netns": netns, "dev": dev, "address": mac, "dst": dst}
    return Step("fdb.delete", f"{mac} on {target(netns, dev)}", words, why, kernel.fdb_delete, args)


def _sysctl(row: Row, space: Space, kernel: Kernel) -> Change:
    setting = row.fields["name"]
    name = f"sysctl {target(row.netns, setting)}"
    there = space.sysctls.get(setting)
    if row.absent:  # a setting cannot be taken away; its old value is not known
        return Change(name, [], {"value": there}, {"value": there})
    value = " ".join(row.fields["value"].split())
    steps = [] if there == value else [sysctl_step(row.netns, setting, there, value, kernel)]
    return Change(name, steps, {"value": there}, {"value": value})


_ROWS: Mapping[str, Callable[[Row, Space, Kernel], Change]] = {
    "sysctls": _sysctl,
    "addresses": _address,
    "routes": _route,
    "neighbours": _neighbour,
    "fdb": _fdb,
}
# In the order in which they are made.
OPTIONS = tuple(_ROWS)

"""The argument specification of podlab_topology. Data."""

from __future__ import annotations

from typing import Any

_STR: dict[str, Any] = {"type": "str"}
_INT: dict[str, Any] = {"type": "int"}
_BOOL: dict[str, Any] = {"type": "bool"}
_NEEDED: dict[str, Any] = {"type": "str", "required": True}
_STATE: dict[str, Any] = {"type": "str", "choices": ["present", "absent"]}
_SCOPE: dict[str, Any] = {"type": "str", "choices": ["global", "site", "link", "host"]}


def _flags(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, _BOOL)


def _group(**options: Any) -> dict[str, Any]:
    return {"type": "dict", "options": options}


def _table(**options: Any) -> dict[str, Any]:
    return {"type": "list", "elements": "dict", "default": [], "options": {**options, "state": _STATE}}


_END: dict[str, Any] = {
    "name": _NEEDED,
    "netns": _STR,
    "mtu": _INT,
    "address": _STR,
    "altname": _STR,
    "master": _STR,
    "addrgenmode": {"type": "str", "choices": ["eui64", "none", "stable_secret", "random"]},
    "up": _BOOL,
    "addresses": {"type": "list", "elements": "str"},
    "port": _group(**_flags("hairpin", "learning", "flood", "neigh_suppress", "isolated")),
}

OPTIONS: dict[str, Any] = {
    "state": {**_STATE, "default": "present"},
    "namespaces": _table(name=_NEEDED, loopback=_BOOL, sysctls={"type": "dict"}),
    "links": _table(
        **_END,
        kind={"type": "str", "choices": ["bridge", "dummy", "veth", "vxlan"], "required": True},
        peer=_group(**_END),
        bridge=_group(
            **_flags("stp", "vlan_filtering", "mcast_snooping"),
            **_flags("nf_call_iptables", "nf_call_ip6tables", "nf_call_arptables"),
            ageing_time=_INT,
            group_fwd_mask=_INT,
        ),
        vxlan=_group(id=_INT, dstport={"type": "int", "default": 8472}, learning=_BOOL, local=_STR, dev=_STR, ttl=_INT),
    ),
    "addresses": _table(netns=_STR, dev=_NEEDED, address=_NEEDED, scope=_SCOPE, noprefixroute=_BOOL, nodad=_BOOL),
    "routes": _table(
        netns=_STR,
        dst=_NEEDED,
        via=_STR,
        dev=_STR,
        scope=_SCOPE,
        src=_STR,
        onlink=_BOOL,
        metric=_INT,
        type={"type": "str", "choices": ["unicast", "blackhole", "unreachable", "prohibit"]},
    ),
    "neighbours": _table(netns=_STR, dev=_NEEDED, dst=_NEEDED, address=_NEEDED),
    "fdb": _table(netns=_STR, dev=_NEEDED, address=_NEEDED, dst=_STR),
    "sysctls": _table(netns=_STR, name=_NEEDED, value=_NEEDED),
}

"""kindnet's masquerading: what a pod sends out of the pods' network carries its node's address.

So that others than nodes, which have no route to pods, can answer. The nat chain KIND-MASQ-AGENT, the same in every
mode of kube-proxy: it is the network's, not the Services'. Pure.

Source: kind's images/kindnetd/cmd/kindnetd/masq.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from .iptables_save import Tables, saved_form

CHAIN = "KIND-MASQ-AGENT"
TABLE = "nat"
HOOK = "POSTROUTING"

_WORD = "kind-masq-agent:"
_LOCAL = f'-m comment --comment "{_WORD} local traffic is not subject to MASQUERADE"'
_OUTBOUND = f'-m comment --comment "{_WORD} outbound traffic is subject to MASQUERADE (must be last in chain)"'
_ALL = (
    f'-m comment --comment "{_WORD} ensure nat {HOOK} directs all non-LOCAL destination traffic to our custom {CHAIN} '
    'chain"'
)

# Last in its chain, so after kube-proxy's own: kindnet appends it, kube-proxy inserts.
JUMP = f"-A {HOOK} -m addrtype ! --dst-type LOCAL {_ALL} -j {CHAIN}"


def rules(pod_subnets: Iterable[str]) -> list[str]:
    """The chain's rules, as they are typed. pod_subnets: CIDRs whose addresses need no other one."""
    return [
        *(f"-A {CHAIN} -d {subnet} {_LOCAL} -j RETURN" for subnet in pod_subnets),
        f"-A {CHAIN} {_OUTBOUND} -j MASQUERADE",
    ]


def saved(pod_subnets: Iterable[str]) -> list[str]:
    """The chain's rules, as iptables-save prints them."""
    return [saved_form(rule) for rule in rules(pod_subnets)]


def difference(pod_subnets: Iterable[str], have: Tables) -> str:
    """Why the node needs a sync, in a few words; empty when its rules (parsed iptables-save) are as they should be."""
    nat = have.get(TABLE, {})
    if CHAIN not in nat:
        return "chain missing"
    if nat[CHAIN] != saved(pod_subnets):
        return "chain differs"
    return "" if _jumps(have) else "jump missing"


def sync_text(pod_subnets: Iterable[str], have: Tables) -> str:
    """One input for iptables-restore that makes the chain anew, and its jump where there is none."""
    jump = [] if _jumps(have) else [JUMP]
    return _text([f":{CHAIN} - [0:0]", *rules(pod_subnets), *jump])


def removal_text(have: Tables) -> str:
    """One input for iptables-restore that takes the chain and its jumps away; empty when there is none."""
    if CHAIN not in have.get(TABLE, {}):
        return ""
    gone = [f"-D {line[3:]}" for line in _jumps(have)]
    return _text([f":{CHAIN} - [0:0]", *gone, f"-X {CHAIN}"])


def shown(have: Tables) -> dict[str, list[str]]:
    """What is there, table -> lines as iptables-save prints them, for a diff."""
    nat = have.get(TABLE, {})
    return {TABLE: [*_jumps(have), f":{CHAIN} - [0:0]", *nat[CHAIN]]} if CHAIN in nat else {}


def wanted(pod_subnets: Iterable[str]) -> dict[str, list[str]]:
    """What is to be there, in shown's form."""
    return {TABLE: [saved_form(JUMP), f":{CHAIN} - [0:0]", *saved(pod_subnets)]}


def _jumps(have: Tables) -> list[str]:
    line = saved_form(JUMP)
    return [found for found in have.get(TABLE, {}).get(HOOK, ()) if found == line]


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in (f"*{TABLE}", *lines, "COMMIT"))

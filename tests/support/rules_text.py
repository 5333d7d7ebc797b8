"""Restore text to compare kube-proxy's rules with: a frame that is always there, and the lines of a case."""

from __future__ import annotations

import base64
import hashlib
import re

MARK = "0x00004000"
LAST = '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"'
EVERY_ADDRESS = f"{LAST} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"

_FILTER = ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL")
_NAT = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ")
FIREWALL = (
    '-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8'
    " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
)
INVALID = "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"
_FORWARD = (
    '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark MARK/MARK -j ACCEPT\n'
    '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack'
    " --ctstate RELATED,ESTABLISHED -j ACCEPT"
)
_POSTROUTING = (
    "-A KUBE-POSTROUTING -m mark ! --mark MARK/MARK -j RETURN\n"
    "-A KUBE-POSTROUTING -j MARK --xor-mark MARK\n"
    '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE{}\n'
    "-A KUBE-MARK-MASQ -j MARK --or-mark MARK"
)


def hashed(text: str) -> str:
    """Sixteen characters of a chain's name, by services' specification and not by podlab's code."""
    return base64.b32encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")[:16]


def expected(
    lines: str,
    *,
    jumps: tuple[str, ...] = (EVERY_ADDRESS,),
    localhost: bool = True,
    invalid: str = INVALID,
    mark: str = MARK,
    random_fully: bool = False,
) -> str:
    """The whole text of a full sync that has these lines besides those that are always there.

    lines: rules, those of the filter table before a line "*nat". <X> stands for the hash of X. The chains of Services
    are those that have rules. jumps: how KUBE-SERVICES ends. localhost: with NodePorts on 127.0.0.1.
    """
    text = re.sub("<(.*?)>", lambda found: hashed(found[1]), lines)
    filtered, _, natted = text.partition("*nat")
    filter_rules, nat_rules = _rules(filtered), _rules(natted)
    own = dict.fromkeys(rule.split()[1] for rule in nat_rules if not rule.startswith(tuple(f"-A {c} " for c in _NAT)))
    whole = [
        "*filter",
        *_declared(_FILTER),
        *([":KUBE-FIREWALL - [0:0]", FIREWALL] if localhost else []),
        *filter_rules,
        *([invalid] if invalid else []),
        _FORWARD,
        "COMMIT",
        "*nat",
        *_declared((*_NAT, *own)),
        _POSTROUTING.format(" --random-fully" if random_fully else ""),
        *nat_rules,
        *(f"-A KUBE-SERVICES {jump}" for jump in jumps),
        "COMMIT",
    ]
    return "\n".join(whole).replace("MARK/MARK", f"{mark}/{mark}").replace("-mark MARK", f"-mark {mark}") + "\n"


def _rules(text: str) -> list[str]:
    """One rule a line; a line that begins with a backslash goes on with the one before."""
    return [line.strip() for line in re.sub(r"\s*\n\s*\\\s*", " ", text).splitlines() if line.strip()]


def _declared(chains: tuple[str, ...]) -> list[str]:
    return [f":{chain} - [0:0]" for chain in chains]

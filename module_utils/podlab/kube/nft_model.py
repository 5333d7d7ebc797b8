"""A table of nftables as data, and the commands of `nft -f` that make it.

Source: nft(8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

TABLE = "kube-proxy"
TABLE_COMMENT = "rules for kube-proxy"
FAMILIES = {"ipv4": "ip", "ipv6": "ip6"}


class Chain(NamedTuple):
    """A chain. hook: "type filter hook input priority 0" of a base chain, else empty. rules: as typed."""

    hook: str
    comment: str
    rules: list[str]


class Element(NamedTuple):
    """What a key of a map leads to ("goto X", "drop"; empty in a set), and the element's comment."""

    value: str = ""
    comment: str = ""


class Container(NamedTuple):
    """A set or map.

    kind: "set" or "map". of: what is in it ("ipv4_addr", "inet_proto . inet_service : verdict").
    flags: "dynamic,timeout" or empty; timeout: seconds, 0 for none.
    elements: key ("10.96.0.1 . tcp . 80") -> what it leads to. None: the kernel fills it.
    """

    kind: str
    of: str
    flags: str = ""
    timeout: int = 0
    comment: str = ""
    elements: dict[str, Element] | None = None

    @property
    def form(self) -> tuple[str, str, str, int, str]:
        """All that cannot be changed in place."""
        return self.kind, self.of, self.flags, self.timeout, self.comment


class Ruleset:
    """The table kube-proxy of one family: chains and containers, in the order in which they are made."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.comment = TABLE_COMMENT
        self.chains: dict[str, Chain] = {}
        self.containers: dict[str, Container] = {}

    @property
    def table(self) -> str:
        """ "ip kube-proxy" or "ip6 kube-proxy"."""
        return f"{FAMILIES[self.family]} {TABLE}"

    def chain(self, name: str, hook: str = "", comment: str = "") -> None:
        """Add a chain, empty; one that is there already stays as it is."""
        self.chains.setdefault(name, Chain(hook, comment, []))

    def rule(self, chain: str, text: str, comment: str = "") -> None:
        """Append a rule to a chain that is there."""
        self.chains[chain].rules.append(f'{text} comment "{comment}"' if comment else text)

    def element(self, container: str, key: str, value: str = "", comment: str = "") -> None:
        """Add an element. The first of a key stays, as the first of two iptables rules would win."""
        elements = self.containers[container].elements
        assert elements is not None
        elements.setdefault(key, Element(value, comment))

    def text(self) -> str:
        """The input of `nft -f` for a full sync, one transaction: whatever was in these chains and maps is replaced.

        Chains, sets and elements of others in the table are left alone, and so are remembered clients (affinity).
        """
        commands = [add_table(self.table)]
        commands += [command for name, chain in self.chains.items() for command in renew_chain(self.table, name, chain)]
        for name, container in self.containers.items():
            commands.append(add_container(self.table, name, container))
            if container.elements is not None:
                commands.append(f"flush {container.kind} {self.table} {name}")
        for name, container in self.containers.items():
            commands += add_elements(self.table, name, container.elements or {})
        for name, chain in self.chains.items():
            commands += add_rules(self.table, name, chain.rules)
        return join(commands)


def join(commands: Iterable[str]) -> str:
    """The commands as one input; empty when there is none."""
    return "".join(f"{command}\n" for command in commands)


def add_table(table: str) -> str:
    return f'add table {table} {{ comment "{TABLE_COMMENT}" ; }}'


def add_chain(table: str, name: str, chain: Chain) -> str:
    words = [f"{chain.hook} ;"] if chain.hook else []
    words += [f'comment "{chain.comment}" ;'] if chain.comment else []
    return f"add chain {table} {name}{' { ' + ' '.join(words) + ' }' if words else ''}"


def renew_chain(table: str, name: str, chain: Chain) -> list[str]:
    """Make a chain, or empty the one that is there. A base chain is made anew: its hook cannot be changed."""
    if chain.hook:
        return [f"add chain {table} {name}", f"delete chain {table} {name}", add_chain(table, name, chain)]
    return [add_chain(table, name, chain), f"flush chain {table} {name}"]


def add_container(table: str, name: str, container: Container) -> str:
    words = [f"type {container.of} ;"]
    words += [f"flags {container.flags} ;"] if container.flags else []
    words += [f"timeout {container.timeout}s ;"] if container.timeout else []
    words += [f'comment "{container.comment}" ;'] if container.comment else []
    return f"add {container.kind} {table} {name} {{ {' '.join(words)} }}"


def add_elements(table: str, name: str, elements: Mapping[str, Element]) -> list[str]:
    """One command per element, as they are in kube-proxy's transactions."""
    return [f"add element {table} {name} {{ {element_text(key, element)} }}" for key, element in elements.items()]


def delete_elements(table: str, name: str, keys: Iterable[str]) -> list[str]:
    return [f"delete element {table} {name} {{ {key} }}" for key in keys]


def add_rules(table: str, chain: str, rules: Iterable[str]) -> list[str]:
    return [f"add rule {table} {chain} {rule}" for rule in rules]


def element_text(key: str, element: Element) -> str:
    """An element as it is typed between the braces."""
    comment = f' comment "{element.comment}"' if element.comment else ""
    return f"{key}{comment}{' : ' + element.value if element.value else ''}"

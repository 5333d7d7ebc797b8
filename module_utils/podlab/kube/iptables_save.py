"""iptables' rule language as text: what was fed in, what `iptables-save` prints of it, and how to read that.

Sources: iptables-extensions(8), iptables-save(8); the forms were compared with iptables 1.8.9, legacy and nft.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple

# table -> chain -> rules, each rule without counters and with its "-A CHAIN".
Tables = dict[str, dict[str, list[str]]]

_WORD = re.compile(r'"[^"]*"|\S+')
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# Options that belong to the rule, not to a match; iptables-save prints them first, in this order.
_HEAD = ("-s", "-d", "-i", "-o", "-p")
_MASK = {"ipv4": "255.255.255.255", "ipv6": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}
_ADDRESS_BITS = {"ipv4": 32, "ipv6": 128}
_UNREACHABLE = {"ipv4": "icmp-port-unreachable", "ipv6": "icmp6-port-unreachable"}
# libxt_conntrack.c prints states in its own order, whatever was typed.
_STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")


class _Option(NamedTuple):
    """One option of a match: `! --ctstate NEW`."""

    negated: bool
    name: str
    values: list[str]

    def text(self) -> str:
        return " ".join([*(["!"] if self.negated else []), self.name, *self.values])


def parse_save(text: str) -> Tables:
    """Tables, chains and rules of `iptables-save` output (also of restore text: chain lines, then -A lines)."""
    tables: Tables = {}
    chains: dict[str, list[str]] = {}
    for line in text.splitlines():
        first = line[:1]
        if first == "-":
            if line.startswith("-A "):
                chains.setdefault(line[3 : line.index(" ", 3)] if " " in line[3:] else line[3:], []).append(line)
        elif first == ":":
            chains.setdefault(line[1:].partition(" ")[0], [])
        elif first == "*":
            chains = tables.setdefault(line[1:].strip(), {})
    return tables


def save_text(tables: Tables) -> str:
    """The tables as iptables-save prints them, counters zero; every chain is one without a policy."""
    lines = []
    for table, chains in tables.items():
        lines += [f"*{table}", *(f":{name} - [0:0]" for name in chains)]
        lines += [rule for rules in chains.values() for rule in rules]
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


@functools.lru_cache(maxsize=4096)
def saved_form(rule: str, family: str = "ipv4") -> str:
    """What iptables-save prints for a rule that was loaded as this text.

    rule: words as after `iptables`, with or without its `-A CHAIN`. Words of the form {name} stand for values and are
        kept, so that one conversion serves every rule of the same shape.
    family: "ipv4" or "ipv6".
    """
    words = _WORD.findall(rule)
    prefix: list[str] = []
    head: dict[str, str] = {}
    matches: list[tuple[str, list[_Option]]] = []
    target: list[str] = []
    negated = False
    while words:
        word = words.pop(0)
        if word == "!":
            negated = True
            continue
        if word in ("-A", "-I", "-D"):
            prefix = [word, words.pop(0)]
        elif word == "-m":
            matches.append((words.pop(0), []))
        elif word == "-j":
            target, words = words, []
        elif word in _HEAD:
            head[word] = _head_option(word, words.pop(0), negated, family)
        else:
            values = []
            while words and words[0] != "!" and not words[0].startswith("-"):
                values.append(words.pop(0))
            matches[-1][1].append(_Option(negated, word, values))
        negated = False
    parts = [*prefix, *(head[name] for name in _HEAD if head.get(name))]
    for name, options in matches:
        parts += ["-m", name, *_MATCHES.get(name, _plain)(options, family)]
    if target:
        parts += ["-j", *_target(target, family)]
    return " ".join(parts)


def _head_option(name: str, value: str, negated: bool, family: str) -> str:
    if name in ("-s", "-d"):
        if "/" not in value:
            value = f"{value}/{_ADDRESS_BITS[family]}"
        elif "{" not in value:
            value = str(ipaddress.ip_network(value, strict=False))
        if value.endswith("/0") and not negated:
            return ""
    return f"{'! ' if negated else ''}{name} {value}"


def _plain(options: list[_Option], family: str) -> list[str]:
    return [option.text() for option in options]


def _comment(options: list[_Option], family: str) -> list[str]:
    text = " ".join(options[0].values).strip('"')
    return ["--comment", text if _BARE.fullmatch(text) else f'"{text}"']


def _recent(options: list[_Option], family: str) -> list[str]:
    by_name = {option.name: option for option in options}
    order = ("--set", "--rcheck", "--update", "--remove", "--seconds", "--reap", "--hitcount", "--rttl", "--name")
    return [by_name[name].text() for name in order if name in by_name] + ["--mask", _MASK[family], "--rsource"]


def _statistic(options: list[_Option], family: str) -> list[str]:
    return [
        f"--probability {saved_probability(option.values[0])}" if option.name == "--probability" else option.text()
        for option in options
    ]


def _mark(options: list[_Option], family: str) -> list[str]:
    return [option._replace(values=[_hex(option.values[0])]).text() for option in options]


def _conntrack(options: list[_Option], family: str) -> list[str]:
    return [
        option._replace(values=[",".join(sorted(option.values[0].split(","), key=_STATES.index))]).text()
        if option.name == "--ctstate"
        else option.text()
        for option in options
    ]


def _nfacct(options: list[_Option], family: str) -> list[str]:
    # libxt_nfacct.c prints the name with a blank of its own.
    return [f"{option.name}  {option.values[0]}" for option in options]


_MATCHES: dict[str, Callable[[list[_Option], str], list[str]]] = {
    "comment": _comment,
    "recent": _recent,
    "statistic": _statistic,
    "mark": _mark,
    "conntrack": _conntrack,
    "nfacct": _nfacct,
}


def saved_probability(typed: str) -> str:
    """A --probability as printed: the kernel keeps it in 31 bits (libxt_statistic.c)."""
    return f"{int(float(typed) * 0x80000000 + 0.5) / 0x80000000:.11f}"


def _hex(value: str) -> str:
    return "/".join(f"{int(part, 16):#x}" for part in value.split("/"))


def _target(words: list[str], family: str) -> list[str]:
    if words[0] == "MARK" and words[1:2] == ["--or-mark"]:
        mark = _hex(words[2])
        return ["MARK", "--set-xmark", f"{mark}/{mark}"]
    if words[0] == "MARK" and words[1:2] == ["--xor-mark"]:
        return ["MARK", "--set-xmark", f"{_hex(words[2])}/0x0"]
    if words == ["REJECT"]:
        return ["REJECT", "--reject-with", _UNREACHABLE[family]]
    return words

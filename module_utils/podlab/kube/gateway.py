"""The machine as a lab's gateway: the rules for extraPortMappings and --nat, in chains of the lab's own. Pure.

Every rule carries the comment "podlab lab NAME", and the chains' names are made of the lab's name, so that both are
found without config and state. What was there before (ip_forward, which tables and chains iptables had to make) is
written in a comment as well: whoever takes the last lab's rules away reads there what to put back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .cidr import WILDCARD
from .cluster import Cluster, Node, PortMapping, lab_hash, uplink_name
from .iptables_save import Tables, saved_form

# What holds each chain's name; with the eight digits of the lab it stays below iptables' 28 characters.
DNAT, SNAT, FORWARD, INPUT = "PODLAB-DNAT-", "PODLAB-SNAT-", "PODLAB-FWD-", "PODLAB-IN-"
_TABLE = {DNAT: "nat", SNAT: "nat", FORWARD: "filter", INPUT: "filter"}
_HOOKS = {DNAT: ("PREROUTING", "OUTPUT"), SNAT: ("POSTROUTING",), FORWARD: ("FORWARD",), INPUT: ("INPUT",)}
_ANSWERS, _NO_ANSWERS = "-m conntrack --ctstate RELATED,ESTABLISHED", "-m conntrack ! --ctstate RELATED,ESTABLISHED"
_MAPPED, _NOT_MAPPED = "-m conntrack --ctstate DNAT", "-m conntrack ! --ctstate DNAT"
_LOOPBACK = "127.0.0.0/8"
_ANY_UPLINK = "podlab+"
_MEMORY = re.compile(r'--comment "podlab lab \S+: before: ip_forward=([01]) accept_redirects=([01]) without=([\w.,]*)"')


class Memory(NamedTuple):
    """The machine as it was before the first lab: settings, and which of TABLE and TABLE.CHAIN it was without.

    accept_redirects is conf.all's: the kernel sets it whenever ip_forward changes.
    """

    ip_forward: str
    accept_redirects: str
    without: tuple[str, ...]


class Jump(NamedTuple):
    """A jump from a built-in chain; rule is what comes after -A, -I or -D."""

    table: str
    hook: str
    chain: str
    rule: str


class Rules(NamedTuple):
    """Everything of one lab: (table, chain) -> rules as typed, and the jumps."""

    chains: Mapping[tuple[str, str], Sequence[str]]
    jumps: tuple[Jump, ...]


NOTHING = Rules({}, ())


def mapped(cluster: Cluster) -> list[tuple[Node, int, PortMapping]]:
    """Every mapping with its node and its place in the node's list."""
    return [(node, place, one) for node in cluster.nodes for place, one in enumerate(node.port_mappings)]


def needed(cluster: Cluster) -> bool:
    """Whether the machine has to do anything for the lab."""
    return cluster.nat or bool(mapped(cluster))


def was_needed(plain: Mapping[str, Any]) -> bool:
    """The same of a record that Cluster.to_dict made, by this podlab or an older one."""
    return bool(plain.get("nat")) or any(node.get("port_mappings") for node in plain.get("nodes") or ())


def title(node: Node, mapping: PortMapping) -> str:
    """A mapping as people read it."""
    return f"{mapping.listen_address}:{mapping.host_port} -> {node.name}:{mapping.container_port}/{mapping.protocol}"


def chains(name: str) -> list[tuple[str, str]]:
    """(table, chain) of all chains that the lab of that name may have."""
    return [(table, f"{prefix}{lab_hash(name)}") for prefix, table in _TABLE.items()]


def rules(cluster: Cluster, memory: Memory) -> Rules:
    """What is to be there. Empty when nothing is needed."""
    if not needed(cluster):
        return NOTHING
    made = {
        DNAT: _dnat(cluster),
        SNAT: _snat(cluster),
        FORWARD: [*_forward(cluster), _remember(cluster.name, memory)],
        INPUT: _input(cluster),
    }
    own = {prefix: f"{prefix}{lab_hash(cluster.name)}" for prefix in made}
    used = [prefix for prefix, lines in made.items() if lines]
    return Rules(
        {(_TABLE[prefix], own[prefix]): [f"-A {own[prefix]} {rule}" for rule in made[prefix]] for prefix in used},
        tuple(_jump(prefix, hook, own[prefix], cluster.name) for prefix in used for hook in _HOOKS[prefix]),
    )


def _mark(name: str, more: str = "") -> str:
    return f'-m comment --comment "podlab lab {name}{": " if more else ""}{more}"'


def _jump(prefix: str, hook: str, chain: str, name: str) -> Jump:
    local = "-m addrtype --dst-type LOCAL " if prefix == DNAT else ""
    return Jump(_TABLE[prefix], hook, chain, f"{hook} {local}{_mark(name)} -j {chain}")


def _dnat(cluster: Cluster) -> list[str]:
    lines = []
    for node, _, one in mapped(cluster):
        listen = "" if one.listen_address == WILDCARD else f"-d {one.listen_address}/32 "
        protocol = one.protocol.lower()
        lines.append(
            f"{listen}-p {protocol} -m {protocol} --dport {one.host_port} {_mark(cluster.name, title(node, one))} "
            f"-j DNAT --to-destination {node.address}:{one.container_port}"
        )
    return lines


def _snat(cluster: Cluster) -> list[str]:
    uplink, nodes, mark = uplink_name(cluster.name), cluster.node_subnet, _mark(cluster.name)
    lines = []
    if mapped(cluster):
        # Nobody can answer 127.0.0.1, and a node would answer another one directly, past the machine's DNAT.
        lines.append(f"-s {_LOOPBACK} -o {uplink} {mark} -j MASQUERADE")
        lines.append(f"-s {nodes} -d {nodes} -o {uplink} {_MAPPED} {mark} -j MASQUERADE")
    if cluster.nat:
        lines.append(f"-s {nodes} ! -o {uplink} {mark} -j MASQUERADE")
    return lines


def _forward(cluster: Cluster) -> list[str]:
    """What may pass: answers, what was mapped, with nat what the lab begins; labs do not reach each other this way."""
    uplink, mark = uplink_name(cluster.name), _mark(cluster.name)
    lines = [f"-i {uplink} {_ANSWERS} {mark} -j ACCEPT", f"-o {uplink} {_ANSWERS} {mark} -j ACCEPT"]
    if mapped(cluster):
        lines.append(f"-o {uplink} {_MAPPED} {mark} -j ACCEPT")
    lines.append(f"-i {_ANY_UPLINK} -o {uplink} {mark} -j DROP")
    lines.append(f"-i {uplink} -o {_ANY_UPLINK} {_NOT_MAPPED} {mark} -j DROP")
    lines.append(f"-i {uplink} {mark} -j {'ACCEPT' if cluster.nat else 'DROP'}")
    return lines


def _input(cluster: Cluster) -> list[str]:
    """For 127.0.0.1 the uplink has route_localnet: what it would let in besides answers is shut out here."""
    if not mapped(cluster):
        return []
    uplink, mark = uplink_name(cluster.name), _mark(cluster.name)
    return [
        f"-s {_LOOPBACK} -i {uplink} {mark} -j DROP",
        f"-d {_LOOPBACK} -i {uplink} {_NO_ANSWERS} {mark} -j DROP",
    ]


def _remember(name: str, memory: Memory) -> str:
    settings = f"ip_forward={memory.ip_forward} accept_redirects={memory.accept_redirects}"
    return _mark(name, f"before: {settings} without={','.join(memory.without)}")


def remembered(tables: Iterable[Tables]) -> Memory | None:
    """What any lab's rules say of the machine before; None when no lab has any."""
    for have in tables:
        for chain, lines in have.get("filter", {}).items():
            for found in map(_MEMORY.search, lines if chain.startswith(FORWARD) else ()):
                if found:
                    return Memory(found[1], found[2], tuple(filter(None, found[3].split(","))))
    return None


def others(name: str, tables: Iterable[Tables]) -> list[str]:
    """The chains of other labs that are there, one for each lab."""
    own = f"{FORWARD}{lab_hash(name)}"
    return [chain for have in tables for chain in have.get("filter", {}) if chain.startswith(FORWARD) and chain != own]


def present(name: str, have: Tables) -> list[tuple[str, str]]:
    """The lab's chains that are there: of its name, and empty or with a rule that carries its mark."""
    return [
        (table, chain)
        for table, chain in chains(name)
        if chain in have.get(table, {}) and _ours(name, have[table][chain])
    ]


def _ours(name: str, lines: Sequence[str]) -> bool:
    return not lines or any(_marked(name, line) for line in lines)


def _marked(name: str, line: str) -> bool:
    return re.search(rf'--comment "podlab lab {re.escape(name)}[:"]', line) is not None


def in_the_way(name: str, have: Tables) -> dict[tuple[str, str], str]:
    """(table, chain) of a chain that has our name and is somebody else's -> a rule of it."""
    return {
        (table, chain): have[table][chain][0]
        for table, chain in chains(name)
        if chain in have.get(table, {}) and not _ours(name, have[table][chain])
    }


def difference(want: Rules, have: Tables, name: str) -> str:
    """Why a sync is needed, in a few words; empty when all is as it should be."""
    there = present(name, have)
    wrong = [key for key, lines in want.chains.items() if have.get(key[0], {}).get(key[1]) != _saved(lines)]
    counts = (
        (len(wrong), "chain(s) missing or different"),
        (len([key for key in there if key not in want.chains]), "chain(s) no longer needed"),
        (len(_missing(want, have)), "jump(s) missing"),
    )
    return ", ".join(f"{count} {what}" for count, what in counts if count)


def _saved(lines: Iterable[str]) -> list[str]:
    return [saved_form(line) for line in lines]


def _missing(want: Rules, have: Tables) -> list[Jump]:
    return [
        jump for jump in want.jumps if saved_form(f"-A {jump.rule}") not in have.get(jump.table, {}).get(jump.hook, ())
    ]


def sync_text(want: Rules, have: Tables, name: str) -> str:
    """One input for iptables-restore that makes have what is wanted; with empty rules it takes all away.

    Jumps go on top: a machine that drops what it forwards would else do so before.
    """
    gone = [key for key in present(name, have) if key not in want.chains]
    lines: dict[str, list[str]] = {}
    for table, chain in (*want.chains, *gone):
        lines.setdefault(table, []).append(f":{chain} - [0:0]")
    for (table, _), own in want.chains.items():
        lines[table] += own
    for jump in _missing(want, have):
        lines[jump.table].append(f"-I {jump.rule}")
    for table, chain in gone:
        lines[table] += [f"-D {line[3:]}" for line in _jumps_to(chain, have[table], name)]
    for table, chain in gone:
        lines[table].append(f"-X {chain}")
    return "".join(f"{line}\n" for table, own in lines.items() for line in (f"*{table}", *own, "COMMIT"))


def _jumps_to(chain: str, chains_there: Mapping[str, Sequence[str]], name: str) -> list[str]:
    return [
        line
        for lines in chains_there.values()
        for line in lines
        if line.endswith(f" -j {chain}") and _marked(name, line)
    ]


def shown(name: str, have: Tables) -> dict[str, list[str]]:
    """What is there of the lab, table -> lines as iptables-save prints them, for a diff."""
    found: dict[str, list[str]] = {}
    for table, chain in present(name, have):
        found.setdefault(table, []).extend(
            [f":{chain} - [0:0]", *have[table][chain], *_jumps_to(chain, have[table], name)]
        )
    return found


def shown_wanted(want: Rules) -> dict[str, list[str]]:
    """What is to be there, in shown's form."""
    found: dict[str, list[str]] = {}
    for (table, chain), lines in want.chains.items():
        jumps = [f"-A {jump.rule}" for jump in want.jumps if jump.chain == chain]
        found.setdefault(table, []).extend([f":{chain} - [0:0]", *_saved([*lines, *jumps])])
    return found


def superfluous(memory: Memory, text: str, gone: Iterable[str]) -> list[tuple[str, ...]]:
    """What iptables had to make for the labs and nobody uses: ("table", "nat") or ("chain", "filter", "INPUT").

    text: iptables-save's. gone: chains that are about to be removed. Only what is empty then and lets everything pass.
    """
    found: list[tuple[str, ...]] = []
    for table, idle in _idle(text, set(gone)).items():
        if table in memory.without and all(idle.values()):
            found.append(("table", table))
        elif table not in memory.without:
            found += [
                ("chain", table, chain) for chain, yes in idle.items() if yes and f"{table}.{chain}" in memory.without
            ]
    return found


def _idle(text: str, gone: set[str]) -> dict[str, dict[str, bool]]:
    """table -> chain -> whether it is a built-in one that does nothing, once the chains in gone are."""
    tables: dict[str, dict[str, bool]] = {}
    own: dict[str, bool] = {}
    for line in text.splitlines():
        first, _, rest = line.partition(" ")
        if first.startswith("*"):
            own = tables.setdefault(first[1:], {})
        elif first.startswith(":") and first[1:] not in gone:
            own[first[1:]] = rest.startswith("ACCEPT")
        elif first == "-A" and rest.split(" ")[0] in own and line.split(" ")[-1] not in gone:
            own[rest.split(" ")[0]] = False
    return tables


def without(text: str, base_chains: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Memory's part: which tables and built-in chains of ours are not there. text: iptables-save's."""
    tables = {line[1:] for line in text.splitlines() if line.startswith("*")}
    known = set(base_chains)
    hooks = [(_TABLE[prefix], hook) for prefix, own in _HOOKS.items() for hook in own]
    lacking = [f"{table}.{hook}" for table, hook in hooks if table in tables and (table, hook) not in known]
    return (*(table for table in dict.fromkeys(_TABLE.values()) if table not in tables), *lacking)

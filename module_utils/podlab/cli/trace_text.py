"""How a traced packet's story looks, as text and as data. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..linux.conntrack import Tuple
from ..runtime.packet import Answer, Hit, Origin, Passage
from .trace_target import Target

# Hooks that a packet comes to before it is routed; the route is told after them.
BEFORE_ROUTING = ("prerouting", "output")


def story(origin: Origin, target: Target, passages: Sequence[Passage], answer: Answer) -> dict[str, Any]:
    """The story as data: what `-o json` prints.

    sent and received are the packet's addresses at its beginning and at its end; dnat, snat: null where there was none.
    """
    sent = passages[0].arrives
    last = passages[-1].leaves
    before, after = sent, last or sent
    chosen = next(
        (end for end in target.endpoints if (end.address, end.port) == (after.destination, after.destination_port)),
        None,
    )
    return {
        "from": {"kind": origin.kind, "name": origin.name, "node": origin.node, "address": sent.source},
        "to": {
            "service": target.service or None,
            "port": target.port_name or None,
            "address": f"{target.address}:{target.port}",
            "protocol": target.protocol.upper(),
            "endpoints": [f"{end.address}:{end.port}" for end in target.endpoints if end.ready],
        },
        "nodes": [_node(passage) for passage in passages],
        "dnat": None if _to(after) == _to(before) else {"from": _to(before), "to": _to(after),
                                                       "pod": chosen.pod or None if chosen else None,
                                                       "node": chosen.node or None if chosen else None},
        "snat": None if _from(after) == _from(before) else {"from": _from(before), "to": _from(after)},
        "received": _tuple(last) if last else None,
        "answer": {"result": answer.result, "seconds": round(answer.seconds, 6), "reason": reason(passages, answer)},
    }  # fmt: skip


def reason(passages: Sequence[Passage], answer: Answer) -> str:
    """Why the answer is what it is, by the last rule that was hit."""
    hits = passages[-1].hits
    last = hits[-1] if hits else None
    if last and last.verdict == "drop":
        rejected = "reject" in last.rule.lower()
        place = f"on {passages[-1].node} in {last.table} {last.chain}"
        # net.ipv4.icmp_ratelimit; redirects, as a pod that reaches itself gets them, count too.
        kept = ", but the ICMP error was kept back: a node sends one client only few" if rejected else ""
        return f"{'rejected' if rejected else 'dropped'} {place}{kept if answer.result == 'no answer' else ''}"
    if answer.result == "refused":
        return "nobody listens there"
    return answer.by if answer.result in ("no answer", "unreachable") else ""


def text(told: Mapping[str, Any]) -> str:
    """The story for a person: numbered rules node by node, then translation, then the answer."""
    return "\n".join(_lines(told)) + "\n"


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    start, to = told["from"], told["to"]
    place = f", on {start['node']}" if start["kind"] == "pod" else ""
    what = f"Service {to['service']}{' port ' + to['port'] if to['port'] else ''}, " if to["service"] else ""
    yield f"{start['kind']} {start['name']} ({start['address']}{place}) to {what}{to['address']}/{to['protocol']}"
    number = 0
    for node in told["nodes"]:
        yield ""
        came = f" on {node['interface']}" if node["interface"] else ""
        yield f"{node['node']}: {node['arrives']['from']} -> {node['arrives']['to']}{came}"
        if node["by"] == "counters":
            yield "  by counters of iptables-legacy: other packets may have counted, too"
        hook, routed = "", False
        for hit in node["hits"]:
            if hit["hook"] != hook:
                if hook and not routed and hit["hook"] not in BEFORE_ROUTING:
                    yield _route(node)
                    routed = True
                hook = hit["hook"]
                yield f"  {hook.upper()}"
            number += 1
            yield _hit(number, hit)
        if not routed and node["leaves"]:
            yield _route(node)
    yield ""
    yield from _ends(told)


def _hit(number: int, hit: Mapping[str, Any]) -> str:
    shown = hit["rule"] or f"end of {hit['chain']}, its policy"
    if hit["rule"] and not hit["rule"].startswith("-A "):  # nft's rules say neither their chain nor a map's answer
        shown = f"{hit['chain']}: {shown}" + (f" => {hit['target'] or hit['verdict']}" if " vmap " in shown else "")
    return f"  {number:>3}  {hit['table']:<10} {hit['verdict']:<8}  {shown}"


def _route(node: Mapping[str, Any]) -> str:
    return f"  ROUTE {node['route']['result']}"


def _ends(told: Mapping[str, Any]) -> Iterator[str]:
    dnat, snat, answer, received = told["dnat"], told["snat"], told["answer"], told["received"]
    if dnat:
        known = [f"pod {dnat['pod']}"] if dnat["pod"] else []
        known += [f"on {dnat['node']}"] if dnat["node"] else []
        who = f" ({', '.join(known)})" if known else ""
        count = len(told["to"]["endpoints"])
        yield f"DNAT    {dnat['from']} -> {dnat['to']}{who}, one of {count} endpoint{'s' if count != 1 else ''}"
    elif received:
        yield "DNAT    none"
    if snat:
        yield f"SNAT    {snat['from']} -> {snat['to']}: that is who the server sees"
    elif received:
        yield f"SNAT    none: the server sees {received['from']}"
    why = f": {answer['reason']}" if answer["reason"] else ""
    yield f"ANSWER  {answer['result']} after {answer['seconds'] * 1000:.1f} ms{why}"


def _node(passage: Passage) -> dict[str, Any]:
    return {
        "node": passage.node,
        "by": "counters" if passage.counted else "trace",
        "interface": passage.interface or None,
        "arrives": _tuple(passage.arrives),
        "hits": [_plain(hit) for hit in passage.hits],
        "leaves": _tuple(passage.leaves) if passage.leaves else None,
        "route": {"command": " ".join(passage.route_argv), "result": passage.route},
    }


def _plain(hit: Hit) -> dict[str, Any]:
    found = {**hit._asdict(), "mark": f"0x{hit.mark:x}"}
    return {key: value or None for key, value in found.items()}


def _tuple(packet: Tuple) -> dict[str, Any]:
    return {"from": _from(packet), "to": _to(packet), "protocol": packet.protocol.upper()}


def _from(packet: Tuple) -> str:
    return f"{packet.source}:{packet.source_port}"


def _to(packet: Tuple) -> str:
    return f"{packet.destination}:{packet.destination_port}"

"""`trace`: one packet from a pod to a Service, and every rule that it hit."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import PodlabError
from ..runtime import packet, paths
from . import lab, output, pick, trace_target, trace_text
from .objects import DEFAULT_NAMESPACE

DNS_PORT = 53
FORMATS = ("", "json", "yaml")


def trace(word: str, target: str, *, name: str = "", namespace: str = "", form: str = "") -> None:
    """Send one packet and print its story.

    word: a pod, as pick.pod takes it, or a node. target: as trace_target.find takes it; a Service without a namespace
    is looked for in the pod's. name: the lab; namespace: of the pod. form: "", "json" or "yaml".
    Raises PodlabError when there is no such pod or Service, or the kernel cannot follow packets.
    """
    if form not in FORMATS:
        raise PodlabError(f"-o {form}: unable to match a printer. Use json or yaml")
    state = lab.read(name)
    where = pick.place(state, word, namespace)
    wanted = trace_target.find(state, target, namespace or DEFAULT_NAMESPACE)
    origin = packet.Origin(*where)
    passages, answer = packet.follow(
        origin,
        list(_nodes(state)),
        wanted.protocol,
        wanted.address,
        wanted.port,
        [(end.address, end.port) for end in wanted.endpoints],
        _question(state) if wanted.port == DNS_PORT else packet.DATAGRAM,
    )
    story = trace_text.story(origin, wanted, passages, answer)
    printed = {"": trace_text.text, "json": output.as_json, "yaml": output.as_yaml}[form]
    sys.stdout.write(printed(story))


def _question(state: Mapping[str, Any]) -> bytes:
    """A question that the lab's DNS server answers by itself, whether there is such a name or not."""
    zone = (state["cluster"] or {}).get("dns_domain") or "cluster.local"
    return packet.dns_question(f"kubernetes.default.svc.{zone}")


def _nodes(state: Mapping[str, Any]) -> Iterator[packet.Node]:
    """The nodes that run, with the addresses of their pods."""
    for node in state["nodes"]:
        if node["alive"]:
            pods = tuple(
                item["status"]["podIP"]
                for item in state["pods"]
                if item["pod"]["spec"].get("nodeName") == node["name"] and item["status"].get("podIP")
            )
            yield packet.Node(node["name"], paths.node_netns(node["name"]), (node["address"],), pods)

"""capture: how tcpdump is called, and where."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.cli import capture, lab, pick
from podlab.errors import PodlabError

NODE = {"name": "kind-worker", "alive": True, "pid": 100}


def pod(name: str = "web-1", **status: Any) -> dict[str, Any]:
    return {
        "pod": {"metadata": {"name": name, "namespace": "default", "uid": "u"}, "spec": {"nodeName": "kind-worker"}},
        "status": {"phase": "Running", "podlab": {"pause": 7}, **status},
        "alive": True,
    }


STATE = {"nodes": [NODE, {**NODE, "name": "kind-worker2", "alive": False}], "pods": [pod(), pod("kind-worker")]}


@pytest.mark.parametrize(
    ("kind", "words", "more", "interface", "count", "raw", "line"),
    [
        ("pod", [], [], "", 0, False, "tcpdump -n -i eth0 -l"),
        ("node", [], [], "", 0, False, "tcpdump -n -i any -l"),
        ("node", ["port", "80"], [], "eth0", 3, False, "tcpdump -n -i eth0 -l -c 3 port 80"),
        ("pod", ["udp"], ["-e", "-v"], "", 0, False, "tcpdump -n -i eth0 -l -e -v udp"),
        ("pod", [], [], "", 0, True, "tcpdump -n -i eth0 -U -w -"),
    ],
)
def test_the_command_line(
    kind: str, words: list[str], more: list[str], interface: str, count: int, raw: bool, line: str
) -> None:
    assert " ".join(capture.arguments(kind, words, more, interface, count, raw)) == line


@pytest.mark.parametrize(
    ("word", "kind", "netns"),
    [
        ("kind-worker", "node", "podlab-kind-worker"),
        ("node/kind-worker", "node", "podlab-kind-worker"),
        ("pod/kind-worker", "pod", "/proc/100/root/proc/7/ns/net"),
        ("web", "pod", "/proc/100/root/proc/7/ns/net"),
    ],
)
def test_a_name_is_a_node_first_then_a_pod(word: str, kind: str, netns: str) -> None:
    found = pick.place(STATE, word)
    assert (found.kind, found.node, found.netns) == (kind, "kind-worker", netns)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("node/x", 'nodes "x" not found. The lab has: kind-worker, kind-worker2'),
        ("kind-worker2", "node kind-worker2 is not running. Bring it back with ./lab up"),
        ("nobody", 'pods "nobody" not found in namespace default. See them with ./lab get pods -A'),
    ],
)
def test_what_is_not_there_is_named(word: str, message: str) -> None:
    with pytest.raises(PodlabError) as caught:
        pick.place(STATE, word)
    assert caught.value.message == message


def test_a_pod_that_has_ended_has_no_network() -> None:
    state = {**STATE, "pods": [pod(phase="Succeeded", podlab={"pause": 0})]}
    with pytest.raises(PodlabError, match="pod web-1 has no network now; current phase is Succeeded"):
        pick.place(state, "web-1")


def test_a_place_must_be_named() -> None:
    with pytest.raises(PodlabError, match=r"capture POD\|NODE \[FILTER\.\.\.\]"):
        capture.capture([])


def test_no_tcpdump(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(lab, "read", lambda name="": STATE)
    with pytest.raises(PodlabError, match="Install the package tcpdump"):
        capture.capture(["web"])

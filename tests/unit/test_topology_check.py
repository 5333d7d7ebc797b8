"""What is refused about a topology: every value, every relation, all at once, with the place in the options."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.errors import PodlabError, refuse
from podlab.topology_check import problems
from podlab.topology_have import GROUP, Device, Route, fresh
from podlab.topology_want import read
from support.topology_model import Model, machine

NETNS = [{"name": "red"}, {"name": "blue"}]
VETH = {"name": "v0", "netns": "red", "kind": "veth", "peer": {"name": "v1", "netns": "blue"}}
VXLAN = {"name": "vx", "netns": "red", "kind": "vxlan"}
BRIDGE = {"name": "br0", "netns": "red", "kind": "bridge"}
UPLINK = {"name": "up", "kind": "veth", "altname": "podlab-uplink", "peer": {"name": "u0", "netns": "red"}}


def messages(model: Model | None = None, **params: Any) -> list[str]:
    """Every problem of the options, as a person reads it."""
    model = model or Model()
    want, wrong = read(params)
    return [str(problem) for problem in [*wrong, *problems(want, model.see(want))]]


def one(**link: Any) -> dict[str, Any]:
    return {"namespaces": NETNS, "links": [link]}


def veth(**props: Any) -> dict[str, Any]:
    return one(**{**VETH, **props})


def route(**fields: Any) -> dict[str, Any]:
    return {**veth(), "routes": [{"netns": "red", **fields}]}


LONG = "a-name-of-16-byt"
VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "long name": (veth(name=LONG), f"links[0].name: must have 1 to 15 bytes, not 16: {LONG!r}"),
    "long name in bytes": (veth(name="ä" * 8), f"links[0].name: must have 1 to 15 bytes, not 16: {'ä' * 8!r}"),
    "empty name": (veth(name=""), "links[0].name: must have 1 to 15 bytes, not 0: ''"),
    "slash": (veth(name="a/b"), "links[0].name: must not contain '/', as 'a/b' does"),
    "colon": (veth(name="a:b"), "links[0].name: must not contain ':', as 'a:b' does"),
    "template": (veth(name="veth%d"), "links[0].name: must not contain '%', as 'veth%d' does"),
    "blank": (veth(name="a b"), "links[0].name: must not contain ' ', as 'a b' does"),
    "newline": (veth(name="a\nb"), "links[0].name: must not contain '\\n', as 'a\\nb' does"),
    "dots": (veth(name=".."), "links[0].name: must not be . or .. or begin with a dash, as '..' does"),
    "option": (veth(name="-h"), "links[0].name: must not be . or .. or begin with a dash, as '-h' does"),
    "peer's name": (
        veth(peer={"name": "a/b", "netns": "blue"}),
        "links[0].peer.name: must not contain '/', as 'a/b' does",
    ),
    "namespace out of /run/netns": (
        {"namespaces": [{"name": "../etc"}]},
        "namespaces[0].name: must not contain '/', as '../etc' does",
    ),
    "altname": (veth(altname="x" * 128), f"links[0].altname: must have 1 to 127 bytes, not 128: {'x' * 128!r}"),
    "mtu": (veth(mtu=67), "links[0].mtu: must be between 68 and 65535, not 67"),
    "mac": (
        veth(address="02:00:00:00:00"),
        "links[0].address: must be a unicast MAC address such as 02:00:00:00:00:01, not '02:00:00:00:00'",
    ),
    "multicast mac": (
        veth(address="01:00:5e:00:00:01"),
        "links[0].address: must be a unicast MAC address such as 02:00:00:00:00:01, not '01:00:5e:00:00:01'",
    ),
    "zero mac": (
        veth(address="00:00:00:00:00:00"),
        "links[0].address: must be a unicast MAC address such as 02:00:00:00:00:01, not '00:00:00:00:00:00'",
    ),
    "vxlan id 0": (one(**VXLAN, vxlan={"id": 0}), "links[0].vxlan.id: must be between 1 and 16777215, not 0"),
    "vxlan id 2^24": (
        one(**VXLAN, vxlan={"id": 16777216}),
        "links[0].vxlan.id: must be between 1 and 16777215, not 16777216",
    ),
    "vxlan without id": (one(**VXLAN), "links[0].vxlan.id: is required for a vxlan"),
    "vxlan port": (
        one(**VXLAN, vxlan={"id": 1, "dstport": 65536}),
        "links[0].vxlan.dstport: must be between 1 and 65535, not 65536",
    ),
    "vxlan local": (
        one(**VXLAN, vxlan={"id": 1, "local": "10.0.0.1/24"}),
        "links[0].vxlan.local: must be an IP address such as 10.0.0.1, not '10.0.0.1/24'",
    ),
    "address without length": (
        veth(addresses=["10.0.0.1"]),
        "links[0].addresses[0]: must have a prefix length, as 10.0.0.1/24 has, not '10.0.0.1'",
    ),
    "address with mask": (
        veth(addresses=["10.0.0.1/255.255.255.0"]),
        "links[0].addresses[0]: must have a prefix length in bits, as 10.0.0.1/24 has, not '10.0.0.1/255.255.255.0'",
    ),
    "no address": (
        veth(addresses=["10.0.0.1/24", "10.0.0.256/24"]),
        "links[0].addresses[1]: must be an address with prefix length such as 10.0.0.1/24, not '10.0.0.256/24'",
    ),
    "host bits": (
        route(dst="10.0.0.1/24", via="10.0.0.2"),
        "routes[0].dst: must be default or a network such as 10.0.0.0/24, not '10.0.0.1/24' (host bits set)",
    ),
    "next hop": (
        route(dst="default", via="gateway"),
        "routes[0].via: must be an IP address such as 10.0.0.1, not 'gateway'",
    ),
    "setting of no network": (
        {"namespaces": [{"name": "red", "sysctls": {"kernel.pid_max": 1}}]},
        "namespaces[0].sysctls: must begin with net., not 'kernel.pid_max': "
        "no other setting belongs to a network namespace",
    ),
    "setting out of /proc/sys": (
        {"namespaces": [{"name": "red", "sysctls": {"net/../kernel/pid_max": 1}}]},
        "namespaces[0].sysctls: 'net/../kernel/pid_max' is no sysctl name such as net.ipv4.ip_forward",
    ),
    "veth without peer": (veth(peer=None), "links[0].peer: is required: a veth pair has two ends"),
    "bridge with peer": (
        one(**BRIDGE, peer={"name": "x", "netns": "red"}),
        "links[0].peer: is for veth only, not for bridge",
    ),
    "bridge with vxlan": (
        one(**BRIDGE, vxlan={"id": 1}),
        "links[0].vxlan: is for vxlan only, not for bridge",
    ),
    "mark missing": (
        one(**{**UPLINK, "altname": None}),
        "links[0].altname: is required. It marks a link in the machine's own namespace as ours.",
    ),
    "mark of somebody else": (
        one(**{**UPLINK, "altname": "docker-up"}),
        "links[0].altname: must begin with podlab-, not 'docker-up'. "
        "It marks a link in the machine's own namespace as ours.",
    ),
}
WHOLE: dict[str, tuple[dict[str, Any], str]] = {
    "namespace twice": (
        {"namespaces": [{"name": "red"}, {"name": "red"}]},
        "namespaces[1].name: 'red' is in namespaces[0].name already",
    ),
    "link twice": (
        {"namespaces": NETNS, "links": [BRIDGE, {**VETH, "peer": {"name": "br0", "netns": "red"}}]},
        "links[1].peer.name: 'br0' in netns 'red' is in links[0].name already",
    ),
    "altname twice": (
        {"namespaces": NETNS, "links": [{**BRIDGE, "altname": "x"}, {**VETH, "altname": "x"}]},
        "links[1].altname: 'x' in netns 'red' is in links[0].altname already",
    ),
    "address twice": (veth(addresses=["10.0.0.1/24"] * 2), "links[0].addresses: 10.0.0.1/24 is there twice"),
    "route twice": (
        {
            **veth(),
            "routes": [
                {"netns": "red", "dst": "default", "via": "10.0.0.1"},
                {"netns": "red", "dst": "0.0.0.0/0", "via": "10.0.0.2"},
            ],
        },
        "routes[1]: the same dst+metric is in routes[0] already",
    ),
    "unknown namespace": (
        {"namespaces": [{"name": "red"}], "links": [VETH]},
        "links[0].peer.netns: there is no network namespace 'blue'. "
        "List it under namespaces or create it with podlab_netns.",
    ),
    "namespace on its way out": (
        {"namespaces": [{"name": "red"}, {"name": "blue", "state": "absent"}], "links": [VETH]},
        "links[0].peer.netns: 'blue' is to be removed. Set state of links[0].peer to absent as well.",
    ),
    "unknown device": (
        route(dst="default", dev="eth9"),
        "routes[0].dev: there is no link 'eth9' in netns 'red'. List it under links.",
    ),
    "unknown device below": (
        one(**VXLAN, vxlan={"id": 1, "dev": "eth9"}),
        "links[0].vxlan.dev: there is no link 'eth9' in netns 'red'. List it under links.",
    ),
    "unknown master": (
        veth(master="br9"),
        "links[0].master: there is no link 'br9' in netns 'red'. List it under links with kind bridge.",
    ),
    "master in the other namespace": (
        {"namespaces": NETNS, "links": [{**BRIDGE, "netns": "blue"}, {**VETH, "master": "br0"}]},
        "links[1].master: there is no link 'br0' in netns 'red'. List it under links with kind bridge.",
    ),
    "master that is none": (
        {"namespaces": NETNS, "links": [{**VXLAN, "vxlan": {"id": 1}}, {**VETH, "master": "vx"}]},
        "links[1].master: must be a bridge, and 'vx' is a vxlan",
    ),
    "port without a master": (
        veth(master="", port={"hairpin": True}),
        "links[0].port: is for a link with a master",
    ),
}


@pytest.mark.parametrize(("params", "message"), [*VALUES.values(), *WHOLE.values()], ids=[*VALUES, *WHOLE])
def test_refused_with_place_value_and_rule(params: dict[str, Any], message: str) -> None:
    assert message in messages(**params)


@pytest.mark.parametrize("params", [veth(), one(**BRIDGE), one(**VXLAN, vxlan={"id": 1}), one(**UPLINK)])
def test_what_is_right_is_not_refused(params: dict[str, Any]) -> None:
    assert messages(**params) == []


def test_all_problems_come_at_once() -> None:
    found = messages(
        namespaces=[{"name": "red"}],
        links=[{**VETH, "mtu": 1, "master": "br9"}, {**VXLAN, "vxlan": {"id": 0}}],
        routes=[{"netns": "green", "dst": "x"}],
    )
    assert [message.split(":")[0] for message in found] == [
        "links[0].mtu",
        "links[1].vxlan.id",
        "routes[0].dst",
        "links[0].peer.netns",
        "routes[0].netns",
        "links[0].master",
    ]


def test_one_problem_reads_as_one_sentence() -> None:
    _, wrong = read(one(**VXLAN, vxlan={"id": 0}))
    with pytest.raises(PodlabError) as caught:
        refuse(wrong)
    assert caught.value.message == "links[0].vxlan.id: must be between 1 and 16777215, not 0"


FOREIGN = Device("veth")


@pytest.mark.parametrize(
    ("device", "accepted"),
    [
        (FOREIGN, False),
        (FOREIGN._replace(kind=""), False),
        (FOREIGN._replace(altnames=("podlab-other",)), False),
        (FOREIGN._replace(altnames=("podlab-uplink",)), True),
        (FOREIGN._replace(group=GROUP), True),
        (FOREIGN._replace(group=GROUP, altnames=("podlab-other",)), False),
    ],
)
@pytest.mark.parametrize("state", ["present", "absent"])
def test_only_a_marked_link_of_the_machine_is_ours(device: Device, accepted: bool, state: str) -> None:
    found = messages(Model(machine({"up": device})), state=state, **one(**UPLINK))
    assert (found == []) is accepted
    if not accepted:
        assert found[0].startswith(f"links[0].name: the machine has a {device.kind or 'physical'} link 'up'")
        assert found[0].endswith("that is not ours. Rename or remove it, or choose another name.")


@pytest.mark.parametrize("option", ["addresses", "neighbours", "fdb"])
def test_nothing_is_hung_on_a_link_of_the_machine(option: str) -> None:
    entry = {
        "dev": "eth0",
        "dst": "10.0.0.1",
        "address": "10.0.0.1/24" if option == "addresses" else "02:00:00:00:00:01",
    }
    found = messages(Model(machine({"eth0": Device("")})), **{option: [entry]})
    assert found == [f"{option}[0].dev: 'eth0' is a link of the machine, not one of podlab's: it is left alone"]


def test_a_route_of_the_machine_is_not_taken_over() -> None:
    model = Model(machine({"eth0": Device("")}, (Route("10.244.0.0/16", dev="eth0"),)))
    found = messages(model, **one(**UPLINK), routes=[{"dst": "10.244.0.0/16", "dev": "up"}])
    assert found == ["routes[0].dst: the machine reaches 10.244.0.0/16 through 'eth0'. Choose another network."]


@pytest.mark.parametrize(
    ("theirs", "refused"),
    [
        (Route("172.18.0.0/16", dev="docker0"), True),
        (Route("172.16.0.0/12", dev="eth0", via="10.0.0.1"), True),
        (Route("172.18.7.0/24", dev="tun0"), True),
        (Route("172.19.0.0/16", dev="docker0"), False),
        (Route("0.0.0.0/0", dev="eth0"), False),
        (Route("172.18.0.0/16", dev="up"), False),
    ],
)
def test_a_network_that_the_machine_reaches_is_not_taken_over(theirs: Route, refused: bool) -> None:
    model = Model(machine({"eth0": Device("")}, (theirs,)))
    found = messages(model, **one(**UPLINK, addresses=["172.18.0.1/16"]))
    via = f" via {theirs.via}" if theirs.via else ""
    whose = f"172.18.0.0/16 overlaps with the machine's route {theirs.dst}{via} dev {theirs.dev}"
    assert found == ([f"links[0].addresses: {whose}. Choose another network."] if refused else [])


def test_a_namespace_that_is_there_need_not_be_listed() -> None:
    assert messages(Model({**machine(), "red": fresh()}), links=[BRIDGE]) == []

"""Netlink messages as bytes: what is packed is what the kernel's headers say, what is read is what was packed."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys
from typing import Any

import pytest

from podlab.linux import netlink_attrs as nl
from podlab.linux import netlink_wire, sysctl


@pytest.mark.parametrize(
    ("data", "packed"),
    [
        (b"", b"\x04\x00\x07\x00"),
        (b"a", b"\x05\x00\x07\x00a\0\0\0"),
        (b"abcd", b"\x08\x00\x07\x00abcd"),
    ],
)
@pytest.mark.skipif(sys.byteorder != "little", reason="the bytes are written down for a little-endian machine")
def test_attributes_are_padded_and_their_length_is_not(data: bytes, packed: bytes) -> None:
    assert nl.attr(7, data) == packed


def test_attributes_are_read_as_they_were_written() -> None:
    data = nl.u32(4, 1450) + nl.text(3, "eth0") + nl.nested(18, nl.text(1, "veth"))
    attrs = nl.parse_attrs(data)
    assert attrs == {4: struct.pack("=I", 1450), 3: b"eth0\0", 18: nl.text(1, "veth")}


@pytest.mark.parametrize("data", [b"\x00\x00\x01\x00", b"\xff\x00\x01\x00abcd", b"\x08\x00", b"\x03\x00\x01\x00"])
def test_broken_attributes_end_the_reading(data: bytes) -> None:
    assert nl.parse_attrs(nl.u32(9, 1) + data) == {9: struct.pack("=I", 1)}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bridge", {"stp": True, "mcast_snooping": False, "ageing_time": 30000, "group_fwd_mask": 8}),
        ("vxlan", {"id": 1, "dstport": 8472, "learning": False, "local": "10.0.0.1", "ttl": 64, "link": 3}),
        ("vxlan", {"id": 16777215, "local6": "fd00::1"}),
    ],
)
def test_options_are_read_as_they_were_written(kind: str, options: dict[str, Any]) -> None:
    table = nl.KIND_OPTIONS[kind]
    assert nl.unpack_options(table, nl.pack_options(table, options)) == options


def test_the_port_of_a_vxlan_is_in_network_order() -> None:
    assert nl.pack_options(nl.KIND_OPTIONS["vxlan"], {"dstport": 8472})[4:6] == b"\x21\x18"


def test_unset_options_are_left_out() -> None:
    assert nl.pack_options(nl.PORT_OPTIONS, {"hairpin": None}) == b""


@pytest.mark.parametrize(
    ("cidr", "parts"),
    [
        ("10.0.0.1/24", (2, b"\x0a\0\0\x01", 24)),
        ("10.0.0.1", (2, b"\x0a\0\0\x01", 32)),
        ("::1", (10, b"\0" * 15 + b"\x01", 128)),
        ("0.0.0.0/0", (2, b"\0\0\0\0", 0)),
    ],
)
def test_prefixes(cidr: str, parts: tuple[int, bytes, int]) -> None:
    assert nl.split_prefix(cidr) == parts


def test_no_address_is_an_error() -> None:
    with pytest.raises(OSError, match="illegal IP address"):
        nl.ip_bytes("10.0.0.256")


def link_message(*attrs: bytes, index: int = 5, flags: int = nl.IFF_UP, device: int = 1) -> bytes:
    return struct.pack("=BxHiII", 0, device, index, flags, 0) + b"".join(attrs)


def test_a_veth_in_another_namespace() -> None:
    link = nl.parse_link(
        link_message(
            nl.text(nl.IFLA_IFNAME, "eth0"),
            nl.u32(nl.IFLA_MTU, 1450),
            nl.attr(nl.IFLA_ADDRESS, bytes.fromhex("020000000001")),
            nl.u32(nl.IFLA_MASTER, 3),
            nl.u32(nl.IFLA_LINK, 7),
            nl.attr(nl.IFLA_LINK_NETNSID, struct.pack("=i", 0)),
            nl.u32(nl.IFLA_GROUP, 9),
            nl.nested(nl.IFLA_PROP_LIST, nl.text(nl.IFLA_ALT_IFNAME, "a"), nl.text(nl.IFLA_ALT_IFNAME, "b")),
            nl.nested(nl.IFLA_AF_SPEC, nl.nested(nl.AF_INET6, nl.attr(nl.IFLA_INET6_ADDR_GEN_MODE, b"\1"))),
            nl.nested(
                nl.IFLA_LINKINFO,
                nl.text(nl.IFLA_INFO_KIND, "veth"),
                nl.text(nl.IFLA_INFO_SLAVE_KIND, "bridge"),
                nl.nested(nl.IFLA_INFO_SLAVE_DATA, nl.pack_options(nl.PORT_OPTIONS, {"hairpin": True})),
            ),
        )
    )
    assert link == nl.Link(
        ifindex=5,
        name="eth0",
        kind="veth",
        up=True,
        running=False,
        mtu=1450,
        address="02:00:00:00:00:01",
        master=3,
        peer_index=7,
        peer_nsid=0,
        altnames=("a", "b"),
        group=9,
        addrgenmode="none",
        data={},
        port={"hairpin": True},
    )


@pytest.mark.parametrize(("device", "kind"), [(772, "loopback"), (1, "")])
def test_a_link_without_info(device: int, kind: str) -> None:
    assert nl.parse_link(link_message(nl.text(nl.IFLA_IFNAME, "x"), device=device)).kind == kind


def test_a_port_of_something_else_than_a_bridge_has_no_port_options() -> None:
    info = nl.nested(
        nl.IFLA_LINKINFO,
        nl.text(nl.IFLA_INFO_SLAVE_KIND, "bond"),
        nl.nested(nl.IFLA_INFO_SLAVE_DATA, nl.attr(4, b"\1")),
    )
    assert nl.parse_link(link_message(nl.text(nl.IFLA_IFNAME, "x"), info)).port == {}


def test_a_hostile_name_survives_the_way() -> None:
    name = "\udcff%s"
    assert nl.parse_link(link_message(nl.text(nl.IFLA_IFNAME, name))).name == name


def test_a_default_route_has_no_destination() -> None:
    head = struct.pack("=BBBBBBBBI", nl.AF_INET, 0, 0, 0, 254, 3, 0, 1, nl.RTNH_F_ONLINK)
    route = nl.parse_route(head + nl.attr(nl.RTA_GATEWAY, b"\x0a\0\0\x01") + nl.u32(nl.RTA_OIF, 2))
    assert route == nl.Route("0.0.0.0/0", "10.0.0.1", 2, "global", "", True, 0, 254, "unicast", "boot")


def test_a_table_above_255_is_in_its_attribute() -> None:
    head = struct.pack("=BBBBBBBBI", nl.AF_INET6, 0, 0, 0, 0, 3, 0, 1, 0)
    assert nl.parse_route(head + nl.u32(nl.RTA_TABLE, 1000)).table == 1000


def test_the_local_address_of_a_point_to_point_link() -> None:
    head = struct.pack("=BBBBI", nl.AF_INET, 32, 0, 253, 4)
    body = nl.attr(nl.IFA_ADDRESS, b"\x0a\0\0\x02") + nl.attr(nl.IFA_LOCAL, b"\x0a\0\0\x01")
    flags = nl.u32(nl.IFA_FLAGS, nl.IFA_F_NOPREFIXROUTE)
    assert nl.parse_address(head + body + flags) == nl.Address(4, "10.0.0.1/32", "link", True)


def test_a_forwarding_entry() -> None:
    head = struct.pack("=BxxxiHBB", nl.AF_BRIDGE, 3, 0x80, nl.NTF_SELF, 0)
    body = nl.attr(nl.NDA_LLADDR, b"\x02\0\0\0\0\x01") + nl.attr(nl.NDA_DST, b"\x0a\0\0\x02")
    entry = nl.Neighbour(3, "10.0.0.2", "02:00:00:00:00:01", "permanent", nl.NTF_SELF, 0)
    assert nl.parse_neighbour(head + body) == entry


@pytest.mark.parametrize(
    ("number", "word"),
    [(0, "global"), (254, "host"), (77, "77")],
)
def test_numbers_have_words_where_there_are_some(number: int, word: str) -> None:
    assert nl.name_of(nl.SCOPES, number) == word


def error_message(number: int, said: str, capped: bool) -> tuple[bytes, int]:
    original = struct.pack("=IHHII", 24, 16, 0, 1, 0) + (b"" if capped else b"\0" * 8)
    body = struct.pack("=i", -number) + original + nl.text(1, said)
    return body, nl.ACK_TLVS | (nl.CAPPED if capped else 0)


@pytest.mark.parametrize("capped", [True, False])
def test_errors_carry_what_the_kernel_says(capped: bool) -> None:
    body, flags = error_message(errno.EOPNOTSUPP, "Unknown device type", capped)
    with pytest.raises(OSError, match=r"^\[Errno 95\] add dummy d0: .* \(Unknown device type\)$") as caught:
        netlink_wire.raise_error(body, flags, "add dummy d0")
    assert caught.value.errno == errno.EOPNOTSUPP


def test_an_acknowledgement_is_no_error() -> None:
    netlink_wire.raise_error(struct.pack("=i", 0), 0, "nothing")


def test_the_supervisor_can_afford_to_import_it() -> None:
    """Modules that cost memory in every pod's supervisor must not come along."""
    code = "import sys, podlab.linux.netlink, podlab.linux.netns; print(*sys.modules)"
    paths = [path for path in sys.path if path.endswith("module_utils")]
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert not {"dataclasses", "inspect", "subprocess", "json", "ipaddress", "logging", "threading"} & set(loaded)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "/proc/sys/net/ipv4/ip_forward"),
        ("net.ipv4.conf.eth0/1.forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
    ],
)
def test_settings_have_a_file(name: str, path: str) -> None:
    assert sysctl.path(name) == path


@pytest.mark.parametrize("name", ["", "net", "/etc/passwd", "net/../../etc/passwd", "net.//.x", "net..x", "net.a\0b"])
def test_no_name_leads_out_of_proc_sys(name: str) -> None:
    with pytest.raises(ValueError, match="is no sysctl name"):
        sysctl.path(name)


def test_values_are_compared_by_their_words() -> None:
    assert sysctl.normal("32768\t60999\n") == sysctl.normal(" 32768 60999") == "32768 60999"

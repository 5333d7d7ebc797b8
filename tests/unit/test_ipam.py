"""The node's address store: host-local's files, round robin, and what is never given."""

from __future__ import annotations

import pathlib

import pytest

from podlab.errors import PodlabError
from podlab.runtime import ipam

CIDR, GATEWAY = "10.244.1.0/24", "10.244.1.1"


def take(store: pathlib.Path, identity: str, cidr: str = CIDR, gateway: str = GATEWAY) -> str:
    return ipam.allocate(str(store), cidr, gateway, identity)


def given(store: pathlib.Path) -> list[str]:
    return sorted(path.name for path in store.iterdir() if path.name[0].isdigit())


def test_a_file_as_the_plugin_writes_it(tmp_path: pathlib.Path) -> None:
    assert take(tmp_path, "abc") == "10.244.1.2"
    assert (tmp_path / "10.244.1.2").read_bytes() == b"abc\r\neth0"
    assert (tmp_path / "last_reserved_ip.0").read_text() == "10.244.1.2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10.244.1.2", "last_reserved_ip.0", "lock"]
    assert ipam.holder(str(tmp_path), "10.244.1.2") == "abc"
    assert ipam.holder(str(tmp_path), "10.244.1.3") == ""


def test_addresses_that_were_given_back_come_last(tmp_path: pathlib.Path) -> None:
    assert [take(tmp_path, name) for name in "abc"] == ["10.244.1.2", "10.244.1.3", "10.244.1.4"]
    ipam.release(str(tmp_path), "a")
    assert take(tmp_path, "d") == "10.244.1.5"


@pytest.mark.parametrize(
    ("cidr", "gateway", "expected"),
    [
        ("10.0.0.0/29", "10.0.0.1", ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]),
        ("10.0.0.8/29", "10.0.0.9", ["10.0.0.10", "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14"]),
        ("10.0.0.5/29", "10.0.0.6", ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]),
        ("10.0.0.0/30", "10.0.0.1", ["10.0.0.2"]),
    ],
)
def test_all_but_network_gateway_and_broadcast(
    tmp_path: pathlib.Path, cidr: str, gateway: str, expected: list[str]
) -> None:
    assert [take(tmp_path, f"c{number}", cidr, gateway) for number, _ in enumerate(expected)] == expected
    with pytest.raises(PodlabError) as caught:
        take(tmp_path, "one too many", cidr, gateway)
    assert str(caught.value) == (
        f"No address is free in {cidr}: {len(expected)} are in use. Give the node a larger podSubnet"
    )
    assert given(tmp_path) == sorted(expected)


def test_the_search_goes_round(tmp_path: pathlib.Path) -> None:
    for number in range(5):
        take(tmp_path, f"c{number}", "10.0.0.0/29", "10.0.0.1")
    ipam.release(str(tmp_path), "c3")
    ipam.release(str(tmp_path), "c1")
    assert take(tmp_path, "again", "10.0.0.0/29", "10.0.0.1") == "10.0.0.3"
    assert take(tmp_path, "once more", "10.0.0.0/29", "10.0.0.1") == "10.0.0.5"


def test_a_foreign_reservation_is_passed_over(tmp_path: pathlib.Path) -> None:
    (tmp_path / "10.244.1.2").write_bytes(b"of the plugin\r\neth0")
    assert take(tmp_path, "abc") == "10.244.1.3"


@pytest.mark.parametrize("text", ["", "no address", "10.244.9.200", "192.0.2.1"])
def test_a_last_address_that_makes_no_sense(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "last_reserved_ip.0").write_text(text)
    address = take(tmp_path, "abc")
    assert address.startswith("10.244.1.") and address not in ("10.244.1.0", GATEWAY, "10.244.1.255")


def test_releasing_gives_back_what_the_container_has_and_no_more(tmp_path: pathlib.Path) -> None:
    take(tmp_path, "abc")
    take(tmp_path, "abcd")
    take(tmp_path, "abc")
    ipam.release(str(tmp_path), "abc")
    assert given(tmp_path) == ["10.244.1.3"]
    ipam.release(str(tmp_path), "abc")
    ipam.release(str(tmp_path), "never there")
    assert given(tmp_path) == ["10.244.1.3"]


def test_a_file_cut_short_by_a_crash_can_be_released_by_no_one_but_stays_reserved(tmp_path: pathlib.Path) -> None:
    (tmp_path / "10.244.1.2").write_bytes(b"")
    assert take(tmp_path, "abc") == "10.244.1.3"
    ipam.release(str(tmp_path), "abc")
    assert given(tmp_path) == ["10.244.1.2"]

"""Processes and their namespaces, grouped as lsns shows them."""

from __future__ import annotations

import os

import pytest

from podlab.linux import namespaces

HERE = os.getpid()


def test_links_name_an_inode() -> None:
    assert namespaces.parse("net:[4026531840]") == 4026531840


@pytest.mark.parametrize("link", ["", "net", "net:[]", "net:[x]"])
def test_no_link_is_an_error(link: str) -> None:
    with pytest.raises(ValueError, match=".+"):
        namespaces.parse(link)


def test_grouped_by_type_then_inode_with_the_lowest_pid_first() -> None:
    found = namespaces.group({HERE + 1: {"net": 7, "uts": 1}, HERE: {"net": 7, "uts": 2}}, {7: ["red"], 9: ["blue"]})
    assert [each[:3] for each in found] == [
        (7, "net", (HERE, HERE + 1)),
        (9, "net", ()),
        (1, "uts", (HERE + 1,)),
        (2, "uts", (HERE,)),
    ]
    assert [each.names for each in found] == [("red",), ("blue",), (), ()]
    assert found[0].command == found[3].command == namespaces.command(HERE) != ""
    assert found[1].command == ""


def test_nobody_has_no_command() -> None:
    assert namespaces.command(1 << 30) == ""

"""Who a process in a container is, and what it finds in its environment."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import pytest

from podlab.errors import PodlabError
from podlab.runtime import enter

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
web:x:33:34:web:/var/www:/bin/false
nogid:x:50::nogid:/home/nogid:/bin/sh
homeless:x:60:60:x::/bin/sh
broken line
short:x:7
bad:x:notanumber:1::/:/bin/sh
huge:x:4294967295:0::/:/bin/sh
hugegroup:x:70:4294967295::/:/bin/sh
web2:x:33:99:a second name:/second:/bin/sh
"""
GROUP = """\
root:x:0:
disk:x:6:root,web
www:x:34:
extra:x:77:web
numbers:x:abc:web
web:x:500:web
short:x
"""


@pytest.fixture(autouse=True)
def image(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"/etc/passwd": PASSWD, "/etc/group": GROUP}
    monkeypatch.setattr(enter, "read_inside", lambda path: texts[path])


USERS = [
    ({"uid": 0, "gid": 0, "groups": []}, (0, 0, (0, 6), "/root")),
    ({"uid": 33, "gid": None, "groups": []}, (33, 34, (34, 6, 77, 500), "/var/www")),
    ({"uid": 33, "gid": 5, "groups": [9, 6]}, (33, 5, (5, 9, 6, 77, 500), "/var/www")),
    ({"uid": 1234, "gid": None, "groups": []}, (1234, 0, (0,), "/")),
    ({"uid": 1234, "gid": 55, "groups": [55, 100]}, (1234, 55, (55, 100), "/")),
    ({"uid": 60, "gid": None}, (60, 60, (60,), "/")),
    ({"uid": 50, "gid": None}, (50, 0, (0,), "/home/nogid")),
    ({"name": "web", "gid": None, "groups": []}, (33, 34, (34, 6, 77, 500), "/var/www")),
    ({"name": "web:disk", "gid": None}, (33, 6, (6, 77, 500), "/var/www")),
    ({"name": "web:12"}, (33, 12, (12, 6, 77, 500), "/var/www")),
    ({"name": "33"}, (33, 34, (34, 6, 77, 500), "/var/www")),
    ({"name": "1234:1234"}, (1234, 1234, (1234,), "/")),
    ({"name": "web", "gid": 8}, (33, 8, (8, 6, 77, 500), "/var/www")),
    ({"name": ":disk"}, (0, 6, (6,), "/root")),
    ({"name": ""}, (0, 0, (0, 6), "/root")),
    # supplementalGroupsPolicy: Strict
    ({"uid": 33, "gid": None, "groups": [9], "members": False}, (33, 34, (34, 9), "/var/www")),
    ({"name": "web:disk", "gid": None, "groups": [], "members": False}, (33, 6, (6,), "/var/www")),
    # security.md row 22
    ({"name": "00", "gid": None}, (0, 0, (0, 6), "/root")),
    ({"name": "33:", "gid": None}, (33, 34, (34, 6, 77, 500), "/var/www")),
]


@pytest.mark.parametrize(("wanted", "expected"), USERS, ids=[str(row[0]) for row in USERS])
def test_who(wanted: dict[str, Any], expected: tuple[int, int, tuple[int, ...], str]) -> None:
    assert tuple(enter.resolve_user(wanted)) == expected


REFUSED = [
    ("nobody", "unable to find user nobody: no matching entries in /etc/passwd of the image"),
    ("bad", "unable to find user bad: no matching entries in /etc/passwd of the image"),
    ("short", "unable to find user short: no matching entries in /etc/passwd of the image"),
    ("+0", "unable to find user +0: no matching entries in /etc/passwd of the image"),
    ("-1", "unable to find user -1: no matching entries in /etc/passwd of the image"),
    ("\u00b2", "unable to find user \u00b2: no matching entries in /etc/passwd of the image"),
    ("web:users", "unable to find group users: no matching entries in /etc/group of the image"),
    ("web:numbers", "unable to find group numbers: no matching entries in /etc/group of the image"),
]


@pytest.mark.parametrize(("name", "message"), REFUSED)
def test_names_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(PodlabError) as caught:
        enter.resolve_user({"name": name})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "wanted",
    [
        {"name": "4294967295"},
        {"name": "4294967296"},
        {"name": "2147483648"},
        {"name": "9" * 20},
        {"name": "1:4294967296"},
        {"name": "huge"},
        {"name": "hugegroup"},
        {"uid": 4294967295},
        {"uid": -1},
        {"uid": 1, "gid": -1},
        {"uid": 1, "groups": [1 << 31]},
    ],
    ids=str,
)
def test_numbers_that_are_no_user(wanted: dict[str, Any]) -> None:
    """They would wrap around, or leave root what it is (CVE-2024-40635)."""
    with pytest.raises(PodlabError, match="^uids and gids must be in range 0-2147483647, not -?[0-9]+$"):
        enter.resolve_user(wanted)


def test_the_largest_user() -> None:
    assert enter.resolve_user({"name": "2147483647:2147483647"})[:2] == (2147483647, 2147483647)


ENVIRONMENTS = [
    ([], {"HOME": "/h"}),
    ([("HOME", "")], {"HOME": "/h"}),
    ([("HOME", "/own")], {"HOME": "/own"}),
    ([("A", "1"), ("A", "2")], {"A": "2", "HOME": "/h"}),
    ([("TEXT", "a\nb=c")], {"TEXT": "a\nb=c", "HOME": "/h"}),
]


@pytest.mark.parametrize(("pairs", "expected"), ENVIRONMENTS)
def test_environment(pairs: list[tuple[str, str]], expected: dict[str, str]) -> None:
    assert enter.environment(pairs, "/h") == expected


def test_nothing_of_the_callers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    assert enter.environment([], "/") == {"HOME": "/"}


class TestReadInside:
    """Files of the image are anyone's: only a regular file's text is read, and never waited for."""

    @pytest.fixture(autouse=True)
    def real(self, image: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()

    def test_a_file(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "passwd").write_bytes(b"a\xff")
        assert enter.read_inside(str(tmp_path / "passwd")) == "a\ufffd"

    def test_at_most_a_mebibyte(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "passwd").write_bytes(b"x" * (2 << 20))
        assert len(enter.read_inside(str(tmp_path / "passwd"))) == 1 << 20

    def test_what_is_no_regular_file(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "target").write_text("secret")
        (tmp_path / "link").symlink_to("target")
        os.mkfifo(tmp_path / "fifo")
        for name in ("link", "fifo", "missing", "."):
            assert enter.read_inside(str(tmp_path / name)) == ""


def test_privileges_are_the_configs_within_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enter.capabilities, "own_bounding", lambda: 0b1001)
    caps, free = ["CHOWN", "DAC_OVERRIDE", "NONSENSE"], {"type": "Unconfined"}
    made = enter.privileges({"caps": caps, "oom_score_adj": 5, "no_new_privs": True, "seccomp": free})
    assert made == enter.Privileges(0b1, 0b1001, True, 5)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"type": "RuntimeDefault"}, "its seccomp profile has not been loaded"),
        ({}, "its seccomp profile has not been loaded"),
        ({"type": "Localhost", "profile": "x", "error": "cannot load it"}, "cannot load it"),
    ],
)
def test_a_profile_without_a_filter_starts_nothing(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(PodlabError, match=message):
        enter.privileges({"caps": [], "seccomp": wanted})


NOTHING = enter.Privileges(0, 0, False, 0)


def test_no_command() -> None:
    for argv in ([], [""]):
        with pytest.raises(OSError, match="no command: neither the container nor its image has one"):
            enter.execute(argv, {}, NOTHING)


def test_a_command_that_is_nowhere(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="executable file not found in \\$PATH"):
        enter.execute(["podlab-no-such-command"], {"PATH": str(tmp_path)}, NOTHING)


@pytest.mark.parametrize("path", ["", ".", "bin", ":"])
def test_a_path_that_leads_nowhere_but_here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Nothing of where the process happens to be is run."""
    (tmp_path / "bin").mkdir()
    for place in (tmp_path, tmp_path / "bin"):
        (place / "tool").write_text("x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="executable file not found"):
        enter.execute(["tool"], {"PATH": path}, NOTHING)


def test_a_command_that_may_not_be_run(tmp_path: pathlib.Path) -> None:
    (tmp_path / "tool").write_text("x")
    with pytest.raises(PermissionError):
        enter.execute(["tool"], {"PATH": f"{tmp_path}:/nowhere"}, NOTHING)

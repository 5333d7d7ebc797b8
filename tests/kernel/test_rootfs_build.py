"""podlab_rootfs: roots that can be chrooted into, marks, drift, what is not ours, hostile archives."""

from __future__ import annotations

import gzip
import io
import os
import pathlib
import subprocess
import tarfile
from typing import Any, Callable

import pytest

from podlab.runtime import image_store, rootfs

pytestmark = pytest.mark.kernel

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "myroot"


def ask(root: pathlib.Path, **words: Any) -> dict[str, Any]:
    return {"rootfs": [{"path": str(root), **words}]}


def chroot(root: pathlib.Path, *command: str) -> str:
    return subprocess.run(["chroot", str(root), *command], check=True, capture_output=True, text=True).stdout


def beside(root: pathlib.Path) -> list[str]:
    return sorted(name for name in os.listdir(root.parent) if "podlab-" in name)


def test_the_root_of_the_chroot_lesson(root: pathlib.Path, run_module: Run) -> None:
    wanted = ask(root, binaries=["/bin/sh", "/bin/ls", "/bin/bash"])
    checked = run_module("podlab_rootfs", wanted, check=True, diff=True)
    assert checked["changed"] and not root.exists()
    made = run_module("podlab_rootfs", wanted, diff=True)
    assert made.get("failed") is None, made
    for key in ("changed", "commands", "results", "diff"):
        assert checked[key] == made[key]
    assert chroot(root, "/bin/ls", "/") == "bin\nlib\nlib64\n"
    assert chroot(root, "/bin/bash", "-c", "echo $BASH") == "/bin/bash\n"
    assert made["rootfs"][str(root)]["present"]
    again = run_module("podlab_rootfs", wanted, diff=True)
    assert (again["changed"], again["commands"], again["diff"]) == (False, [], [])
    assert again["rootfs"] == made["rootfs"] and beside(root) == []


def test_everything_at_once_and_the_typed_commands_do_the_same(
    root: pathlib.Path, tmp_path: pathlib.Path, run_module: Run
) -> None:
    source = tmp_path / "source"
    source.write_text("#!/bin/sh\necho from source\n")
    source.chmod(0o750)
    with tarfile.open(tmp_path / "base.tar", "w") as archive:
        entry = tarfile.TarInfo("opt/from-tar")
        entry.size, entry.mode = 4, 0o640
        archive.addfile(entry, io.BytesIO(b"text"))
    wanted = ask(
        root,
        tar=str(tmp_path / "base.tar"),
        busybox=True,
        binaries=["/bin/bash"],
        directories=[{"path": "/tmp", "mode": "1777"}, {"path": "/a/b"}],
        files=[{"path": "/etc/motd", "content": "it's $HOME\n"}, {"path": "/bin/tool", "source": str(source)}],
        links=[{"path": "/etc/link", "target": "/nowhere"}],
    )
    made = run_module("podlab_rootfs", wanted)
    assert made.get("failed") is None, made
    assert chroot(root, "/bin/sh", "-c", "cat /etc/motd /opt/from-tar; tool") == "it's $HOME\ntextfrom source\n"
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert os.readlink(root / "etc/link") == "/nowhere"

    by_hand = tmp_path / "by-hand"
    for argv in made["commands"][:-1]:
        subprocess.run([word.replace(str(root), str(by_hand)) for word in argv], check=True, umask=0o022)
    ours, theirs = ({path.relative_to(top) for path in top.rglob("*")} for top in (root, by_hand))
    assert ours == theirs


def test_changes_by_hand_and_other_wishes_are_noticed(root: pathlib.Path, run_module: Run) -> None:
    run_module("podlab_rootfs", ask(root, busybox=True))
    (root / "bin/sh").unlink()
    mended = run_module("podlab_rootfs", ask(root, busybox=True), diff=True)
    assert mended["diff"][0]["before"]["changed_by_hand"] and not mended["diff"][0]["after"]["changed_by_hand"]
    assert (root / "bin/sh").is_symlink() and beside(root) == []
    other = run_module("podlab_rootfs", ask(root, busybox=True, directories=[{"path": "/x"}]))
    assert "other contents wanted" in other["results"][0]["steps"][0] and (root / "x").is_dir()


def test_only_what_podlab_made_is_replaced_or_removed(root: pathlib.Path, run_module: Run) -> None:
    root.mkdir()
    (root / "precious").write_text("data")
    for words in ({"busybox": True}, {"state": "absent"}):
        for check in (True, False):
            failed = run_module("podlab_rootfs", ask(root, **words), check=check)
            assert failed["failed"] and f"podlab did not make {root}" in failed["msg"]
    assert (root / "precious").read_text() == "data"
    (root / "precious").unlink()
    assert run_module("podlab_rootfs", ask(root, busybox=True))["changed"]
    gone = run_module("podlab_rootfs", ask(root, state="absent"))
    assert gone["changed"] and not root.exists() and beside(root) == []
    assert not run_module("podlab_rootfs", ask(root, state="absent"))["changed"]


def test_a_root_in_use_is_left_alone(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """In a mount namespace of its own: a bind below the root, whose source must survive."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("data")
    request = rootfs.Request((), "", "", (("/mnt", 0o755),), (), ())
    rootfs.build(str(root), request, "want")
    pid = os.fork()
    if pid == 0:
        subprocess_free_check(root, victim)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (victim / "file").read_text() == "data" and root.exists()


def subprocess_free_check(root: pathlib.Path, victim: pathlib.Path) -> None:
    """In the child: exit 0 when remove refuses because of the mount."""
    from podlab.errors import PodlabError
    from podlab.linux import syscalls

    code = 1
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount(str(victim), f"{root}/mnt", None, syscalls.MS_BIND)
        try:
            rootfs.remove(str(root))
        except PodlabError as error:
            code = 0 if f"{root}/mnt" in error.message and "Unmount them first" in error.message else 2
    finally:
        os._exit(code)


def test_every_problem_is_named_at_once(root: pathlib.Path, run_module: Run) -> None:
    failed = run_module(
        "podlab_rootfs",
        {
            "rootfs": [
                {"path": "relative"},
                {"path": "/"},
                {"path": str(root), "binaries": ["/bin/no-such", "sh"], "tar": "/no/such.tar"},
                {"path": f"{root}2", "files": [{"path": "../x"}], "directories": [{"path": "/a/../../b"}]},
            ]
        },
    )
    assert failed["failed"]
    assert [problem["place"] for problem in failed["problems"]] == [
        "rootfs[0].path",
        "rootfs[1].path",
        "rootfs[2].binaries",
        "rootfs[2].binaries",
        "rootfs[2].tar",
        "rootfs[3]",
        "rootfs[3]",
    ]
    wrong = run_module("podlab_rootfs", ask(root, directories=[{"path": "/x", "mode": "rwx"}]))
    assert "rootfs[0].directories[0].mode" in wrong["msg"] and not root.exists()


def test_a_hostile_archive_cannot_steer_what_comes_after(
    root: pathlib.Path, tmp_path: pathlib.Path, run_module: Run
) -> None:
    """The archive makes /bin and /etc links to a directory of the machine; binaries and files stay inside the root."""
    victim = tmp_path / "victim"
    victim.mkdir()
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, target in (("bin", str(victim)), ("etc", "../" * 9 + str(victim)[1:]), ("dev/kmsg", "")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = (tarfile.SYMTYPE, target) if target else (tarfile.CHRTYPE, "")
            archive.addfile(entry)
    (tmp_path / "evil.tar.gz").write_bytes(gzip.compress(raw.getvalue()))
    wanted = ask(
        root, tar=str(tmp_path / "evil.tar.gz"), busybox=True, files=[{"path": "/etc/passwd", "content": "pwned"}]
    )
    result = run_module("podlab_rootfs", wanted)
    assert os.listdir(victim) == []
    assert result["failed"] and "Not a directory" in result["msg"]
    assert not root.exists() and beside(root) == []


def test_what_was_left_out_of_an_archive_is_said(root: pathlib.Path, tmp_path: pathlib.Path, run_module: Run) -> None:
    with tarfile.open(tmp_path / "dev.tar", "w") as archive:
        entry = tarfile.TarInfo("dev/null")
        entry.type = tarfile.CHRTYPE
        archive.addfile(entry)
    result = run_module("podlab_rootfs", ask(root, tar=str(tmp_path / "dev.tar")))
    assert any("dev/null: left out" in warning for warning in result["warnings"])


def test_a_killed_build_is_swept_by_the_next(root: pathlib.Path) -> None:
    request = rootfs.Request((), "", "", (("/x", 0o755),), (), ())
    pid = os.fork()
    if pid == 0:
        os.rename = lambda *paths: os.kill(os.getpid(), 9)  # type: ignore[assignment,misc]
        rootfs.build(str(root), request, "want")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    assert not root.exists() and len(beside(root)) == 1
    rootfs.build(str(root), request, "want")
    mark = rootfs.read_mark(str(root))
    assert beside(root) == [] and mark == rootfs.Mark("want", image_store.tree_digest(str(root)))

"""./lab: what it looks for, what it installs, when it makes .venv. Nothing is installed here."""

from __future__ import annotations

import importlib
import os
import pathlib
import re
import subprocess
import types

import pytest

from podlab.cli import bootstrap

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# Writes what it was asked and with which policy, then plays the package manager's part.
APT = """#!/bin/sh
echo "$* frontend=$DEBIAN_FRONTEND runlevel=$RUNLEVEL" >> {log}
[ "$3" = {fails} ] && {{ echo "E: no such package"; exit 100; }}
exit 0
"""


@pytest.fixture
def lab(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The script as a module, on a machine that has no program at all and an empty project directory."""
    script = importlib.reload(bootstrap)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(script, "SYSTEM_PATH", ())
    monkeypatch.setattr(script, "DNSLIB", (str(tmp_path / "bin" / "dnslib"),))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name, path in {"ROOT": "", "VENV": ".venv", "LOCK": "requirements.lock", "STAMP": ".venv/podlab.stamp"}.items():
        monkeypatch.setattr(script, name, str(tmp_path / path).rstrip("/"))
    (tmp_path / "requirements.lock").write_text("invoke==3.0.3\n")
    return script


def add_program(directory: pathlib.Path, name: str, text: str = "#!/bin/sh\n") -> None:
    path = directory / "bin" / name
    path.write_text(text)
    path.chmod(0o755)


def add_apt(directory: pathlib.Path, fails: str = "nothing") -> pathlib.Path:
    log = directory / "apt.log"
    add_program(directory, "apt-get", APT.format(log=log, fails=fails))
    return log


@pytest.mark.parametrize(
    ("task", "has", "has_not"),
    [
        ("up", {"iproute2", "iptables", "gcc"}, {"skopeo", "iputils-ping"}),
        ("demo-pod", {"iproute2", "iputils-ping"}, {"skopeo"}),
        ("test", {"iproute2", "skopeo", "docker-registry", "iputils-ping"}, set()),
        ("capture", {"iproute2", "tcpdump"}, {"conntrack", "skopeo"}),
        ("trace", {"iproute2", "nftables"}, {"tcpdump", "skopeo"}),
        ("validate", set(), {"iproute2"}),
        ("", set(), {"iproute2"}),
    ],
)
def test_needs_by_task(lab: types.ModuleType, task: str, has: set[str], has_not: set[str]) -> None:
    packages = {need.package for need in lab.needs_of(task)}
    assert has <= packages
    assert not has_not & packages


def test_every_need_says_why_and_is_found_by_its_program(lab: types.ModuleType, tmp_path: pathlib.Path) -> None:
    for need in lab.BASE + lab.TESTS:
        assert need.found() is None, need.package
        name = re.split("[:, ]", need.why)[0]
        add_program(tmp_path, name)
        assert need.found() == str(tmp_path / "bin" / name), need.package


@pytest.mark.parametrize("name", ["cc", "gcc", "tcc", "clang", "catatonit"])
def test_any_compiler_or_a_packaged_pause_will_do(lab: types.ModuleType, tmp_path: pathlib.Path, name: str) -> None:
    add_program(tmp_path, name)
    assert "gcc" not in {need.package for need in lab.BASE if need.found() is None}


def test_install_is_one_quiet_apt_call(
    lab: types.ModuleType, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = add_apt(tmp_path)
    lab.install([need for need in lab.BASE if need.package in ("iproute2", "iptables")])
    policy = "frontend=noninteractive runlevel=1"
    assert log.read_text().splitlines() == [
        f"-o DPkg::Lock::Timeout=300 update -q {policy}",
        f"-o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends iproute2 iptables {policy}",
    ]
    said = capsys.readouterr().err
    assert "iproute2         ip: the commands that podlab shows" in said


def test_service_of_a_new_package_does_not_start_at_boot(lab: types.ModuleType, tmp_path: pathlib.Path) -> None:
    add_apt(tmp_path)
    log = tmp_path / "services.log"
    for name in ("deb-systemd-helper", "update-rc.d"):
        add_program(tmp_path, name, f'#!/bin/sh\necho "{name} $*" >> {log}\n')
    lab.install([need for need in lab.TESTS if need.package in ("docker-registry", "skopeo")])
    assert log.read_text().splitlines() == [
        "deb-systemd-helper disable docker-registry.service",
        "update-rc.d docker-registry disable",
    ]


def test_old_package_lists_do_not_stop_an_install(
    lab: types.ModuleType, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = add_apt(tmp_path, fails="update")
    lab.install([lab.BASE[0]])
    assert " install " in log.read_text()
    assert "apt-get update failed" in capsys.readouterr().err


def test_failed_install_shows_apts_words(
    lab: types.ModuleType, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_apt(tmp_path, fails="install")
    with pytest.raises(SystemExit, match="1"):
        lab.install([lab.BASE[0]])
    assert "E: no such package" in capsys.readouterr().err


def test_without_root_one_message_says_it_all(
    lab: types.ModuleType, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = add_apt(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    # .venv is missing as well, and Python cannot make it: named in the same message.
    monkeypatch.setattr(lab, "pythons", lambda: [lab.Python("/usr/bin/python3", (3, 12), False)])
    for program in ("nft", "nsenter", "mount", "busybox", "dnslib", "cc"):
        add_program(tmp_path, program)
    with pytest.raises(SystemExit, match="1"):
        lab.prepare("up")
    assert not log.exists()
    assert capsys.readouterr().err.splitlines() == [
        "podlab: not root, so podlab cannot install what is missing:",
        "  iproute2         ip: the commands that podlab shows for every link, address and route",
        "  iptables         iptables-restore: Services are its rules",
        "  python3.12-venv  venv and pip: podlab's own Python packages go into .venv",
        "Run as root:",
        "  apt-get update && apt-get install -y --no-install-recommends iproute2 iptables python3.12-venv",
    ]


def test_unknown_system_is_told_what_to_look_for(lab: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        lab.prepare("up")
    said = capsys.readouterr().err
    assert "no apt-get" in said
    assert all(need.package in said for need in lab.BASE)


def test_python_too_old_is_told_which_and_what_to_do(
    lab: types.ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lab, "pythons", lambda: [lab.Python("/usr/bin/python3", (3, 9), True)])
    with pytest.raises(SystemExit, match="1"):
        lab.choose_python()
    said = capsys.readouterr().err
    assert "needs Python 3.11 or newer on this machine; here: /usr/bin/python3 is 3.9." in said
    assert "apt-get install python3.11 python3.11-venv" in said


def test_complete_python_is_preferred(lab: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    bare, whole = lab.Python("/usr/bin/python3", (3, 13), False), lab.Python("/opt/python3.12", (3, 12), True)
    monkeypatch.setattr(lab, "pythons", lambda: [lab.Python("/old", (3, 10), True), bare, whole])
    assert lab.choose_python() == whole


def make_whole(lab: types.ModuleType) -> None:
    os.makedirs(os.path.join(lab.VENV, "bin"))
    os.symlink("/bin/sh", os.path.join(lab.VENV, "bin", "python"))
    lab.write_stamp()


def test_venv_is_good_only_when_whole_and_ours(lab: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not lab.venv_is_good()
    make_whole(lab)
    assert lab.venv_is_good()
    monkeypatch.setattr(lab, "ROOT", "/moved")
    assert not lab.venv_is_good()


@pytest.mark.parametrize("breakage", ["lock changed", "stamp missing", "interpreter gone"])
def test_venv_is_made_again(lab: types.ModuleType, breakage: str) -> None:
    make_whole(lab)
    if breakage == "lock changed":
        pathlib.Path(lab.LOCK).write_text("invoke==3.0.4\n")
    elif breakage == "stamp missing":
        os.remove(lab.STAMP)
    else:
        os.remove(os.path.join(lab.VENV, "bin", "python"))
    assert not lab.venv_is_good()


def test_nothing_to_do_runs_nothing(lab: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    make_whole(lab)

    def forbidden(*_args: object, **_more: object) -> None:
        raise AssertionError("ran a command although there was nothing to do")

    monkeypatch.setattr(lab, "run", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    lab.prepare("validate")


def test_invoke_gets_our_environment_and_all_words(
    lab: types.ModuleType, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_whole(lab)
    seen: dict[str, object] = {}
    monkeypatch.setattr(os, "execve", lambda path, argv, env: seen.update(argv=argv, env=env, cwd=os.getcwd()))
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    lab.main(["validate", "a.yaml"])
    env = seen["env"]
    assert isinstance(env, dict)
    assert seen["argv"] == [f"{tmp_path}/.venv/bin/invoke", "validate", "a.yaml"]
    assert seen["cwd"] == str(tmp_path)
    assert env["PODLAB_CWD"] == str(tmp_path / "elsewhere")
    assert env["ANSIBLE_CONFIG"] == f"{tmp_path}/ansible.cfg"
    assert env["LC_ALL"] == "C.UTF-8"
    assert env["PATH"].startswith(f"{tmp_path}/.venv/bin:")
    assert "PYTHONPATH" not in env


def test_help_of_another_command_is_none_of_ours(lab: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(lab, "prepare", seen.append)
    monkeypatch.setattr(os, "execve", lambda path, argv, env: None)
    lab.main(["exec", "web", "--", "ls", "--help"])
    assert seen == ["exec"]


@pytest.mark.parametrize("words", [[], ["help"], ["-h"], ["--help"], ["up", "--help"]])
def test_help_needs_no_package_and_no_root(
    lab: types.ModuleType, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(lab, "prepare", seen.append)
    monkeypatch.setattr(os, "execve", lambda path, argv, env: seen.append(argv[1:]))
    lab.main(words)
    assert seen == ["", words if words[:1] == ["up"] else ["--list"]]


def test_lock_pins_every_name_with_digests() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    locked = {}
    for block in re.split(r"\n(?=\S)", lock.strip()):
        name, _, version = block.split()[0].partition("==")
        locked[re.sub("[._-]+", "-", name).lower()] = version
        assert "--hash=sha256:" in block, name
    for line in (ROOT / "requirements.in").read_text().splitlines():
        if line and not line.startswith("#"):
            name = re.split("[=<>]", line)[0]
            assert re.sub("[._-]+", "-", name).lower() in locked, name
    assert locked["ansible-core"].startswith("2.19."), "the last line that runs on Python 3.11"


def test_ci_runs_what_users_run() -> None:
    path = ROOT / ".ci" / "run"
    lines = path.read_text().splitlines()
    assert lines[:2] == ["#!/usr/bin/env bash", "set -euo pipefail"]
    assert lines[-1] == "exec ./lab test"
    assert os.access(path, os.X_OK)
    assert os.access(ROOT / "lab", os.X_OK)

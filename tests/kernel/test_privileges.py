"""What a container may do: seccomp, capabilities, users, no_new_privs; one pod of many containers."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from podlab.kube import capabilities, seccomp_default
from podlab.linux import cgroup, seccomp, seccomp_filter, syscalls
from podlab.runtime import filters
from support import runtime

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SUPPORT = pathlib.Path(__file__).resolve().parents[1] / "support"
SLEEP = {"command": ["sleep", "1000"]}
NEEDS_COMPILER = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
DEFAULT = {"seccompProfile": {"type": "RuntimeDefault"}}
GROUPS = {"fsGroup": 3000, "supplementalGroups": [4000], "supplementalGroupsPolicy": "Strict"}


def local(name: str) -> dict[str, object]:
    return {"seccompProfile": {"type": "Localhost", "localhostProfile": name}}


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory of the machine with programs for the containers: calls, setuid."""
    directory = tmp_path_factory.mktemp("tools")
    directory.chmod(0o755)
    if shutil.which("gcc"):
        subprocess.run(["gcc", "-static", "-O1", "-o", directory / "calls", SUPPORT / "calls.c"], check=True)
        shutil.copy(directory / "calls", directory / "who")
        (directory / "who").chmod(0o4755)
    return directory


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def profiles(lab: runtime.Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """Profiles of type Localhost on the node: /var/lib/kubelet/seccomp is there a directory of the test."""
    directory = tmp_path_factory.mktemp("profiles")
    made_here = not os.path.isdir(filters.PROFILES)
    kubelet_was_there = os.path.isdir(os.path.dirname(filters.PROFILES))
    os.makedirs(filters.PROFILES, exist_ok=True)
    lab.in_node("mount", "--bind", str(directory), filters.PROFILES)
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOTTY}]
    good = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    # With no_new_privs a profile need not allow what a runtime does before execve.
    ours = "capset setgroups setresgid setresuid close_range chdir getcwd".split()
    narrow = {**good, "syscalls": [{"names": ours, "action": "SCMP_ACT_TRAP"}]}
    (directory / "sub").mkdir()
    (directory / "sub" / "good.json").write_text(json.dumps(good))
    (directory / "narrow.json").write_text(json.dumps(narrow))
    (directory / "bad.json").write_text("{")
    (directory / "wrong.json").write_text('{"defaultAction": "ALLOW"}')
    (directory / "link.json").symlink_to("/etc/passwd")
    os.mkfifo(directory / "fifo.json")
    try:
        yield directory
    finally:
        lab.in_node("umount", filters.PROFILES)
        if made_here:
            os.rmdir(filters.PROFILES)
        if not kubelet_was_there:
            os.rmdir(os.path.dirname(filters.PROFILES))


CONTAINERS = {
    "default": {},
    "admin": {"capabilities": {"add": ["SYS_ADMIN", "SYS_PTRACE"]}},
    "user": {"runAsUser": 1000, "runAsGroup": 2000, "allowPrivilegeEscalation": False},
    "gaining": {"runAsUser": 1000},
    "free": {"seccompProfile": {"type": "Unconfined"}, "capabilities": {"drop": ["ALL"]}},
    "local": local("sub/good.json"),
    "narrow": {**local("narrow.json"), "runAsUser": 1000, "allowPrivilegeEscalation": False},
    "privileged": {"privileged": True},
}
# Ready only when a probe's command is confined as the container is.
PROBE = {"exec": {"command": ["grep", "-q", "^Seccomp:.2$", "/proc/self/status"]}, "periodSeconds": 1}

REFUSED = {
    "missing": (local("none.json"), 'cannot load seccomp profile "{}/none.json": no such file or directory'),
    "bad": (local("bad.json"), 'decoding seccomp profile failed "{}/bad.json": Expecting property name'),
    "wrong": (local("wrong.json"), 'failed "{}/wrong.json": string ALLOW is not a valid action for seccomp'),
    "outside": (local("link.json"), 'cannot load seccomp profile "{}/link.json": it leads out of that directory'),
    "fifo": (local("fifo.json"), 'cannot load seccomp profile "{}/fifo.json": it is not a regular file'),
    "root": ({"runAsNonRoot": True}, "container has runAsNonRoot and image will run as root (pod: "),
}


@pytest.fixture(scope="module")
def pod(lab: runtime.Lab, tools: pathlib.Path, profiles: pathlib.Path) -> runtime.Pod:
    contexts = {**CONTAINERS, **{name: context for name, (context, _) in REFUSED.items()}}
    mounted = [{"name": "tools", "mountPath": "/tools", "readOnly": True}]
    probed = {"default": {"readinessProbe": PROBE}, "free": {"readinessProbe": PROBE}}
    return lab.run_pod(
        *(
            {**SLEEP, "name": name, "securityContext": each, "volumeMounts": mounted, **probed.get(name, {})}
            for name, each in contexts.items()
        ),
        volumes=[{"name": "tools", "hostPath": {"path": str(tools)}}],
        securityContext={
            **DEFAULT,
            "fsGroup": 3000,
            "supplementalGroups": [4000],
            "supplementalGroupsPolicy": "Strict",
        },
        restartPolicy="Never",
    )


def test_all_others_run(pod: runtime.Pod) -> None:
    assert {
        name: pod.container(name)["state"] for name in CONTAINERS if "running" not in pod.container(name)["state"]
    } == {}


def facts(pid: int) -> dict[str, str]:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}


class TestStatus:
    """What the kernel says of the processes; exec is as start is (security.md row 10)."""

    SAME = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Uid", "Gid")
    SAME += ("Groups", "Umask", "SigIgn", "SigBlk", "Speculation_Store_Bypass")

    @pytest.mark.parametrize("name", CONTAINERS)
    def test_exec_is_as_start(self, pod: runtime.Pod, name: str) -> None:
        started, executed = facts(pod.pid(name)), pod.exec("cat", "/proc/self/status", container=name).out
        for line in executed.splitlines():
            key, _, value = line.partition(":")
            if key in self.SAME:
                assert value.strip() == started[key], key
        assert "Seccomp:" in executed

    @pytest.mark.parametrize(
        ("name", "mode", "filters"),
        [("default", "2", "1"), ("admin", "2", "1"), ("user", "2", "1"), ("local", "2", "1"), ("narrow", "2", "1")]
        + [("free", "0", "0"), ("privileged", "0", "0")],
    )
    def test_seccomp(self, pod: runtime.Pod, name: str, mode: str, filters: str) -> None:
        found = facts(pod.pid(name))
        assert (found["Seccomp"], found["Seccomp_filters"]) == (mode, filters)

    def test_a_probe_is_as_start(self, pod: runtime.Pod) -> None:
        pod.until(lambda each: each.container("default")["ready"])
        pod.until(lambda each: "Readiness" in each.status()["podlab"]["probes"].get("free", ""))

    def test_the_sandbox_is_confined(self, pod: runtime.Pod) -> None:
        """Whatever its containers are: RuntimeDefault, no capability, no_new_privs, -998."""
        found = facts(pod.pause())
        assert (found["Seccomp"], found["Seccomp_filters"], found["NoNewPrivs"]) == ("2", "1", "1")
        assert {found[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        # Without CAP_SYS_RESOURCE nobody goes below what he was given.
        may = int(facts(os.getpid())["CapEff"], 16) >> runtime.CAP_SYS_RESOURCE & 1
        assert not may or pathlib.Path(f"/proc/{pod.pause()}/oom_score_adj").read_text() == "-998\n"

    def test_capabilities(self, pod: runtime.Pod) -> None:
        everything = int(facts(os.getpid())["CapBnd"], 16)
        for name, bounding, effective in (
            ("default", 0xA80425FB, 0xA80425FB),
            ("admin", 0xA80425FB | 1 << 21 | 1 << 19, 0xA80425FB | 1 << 21 | 1 << 19),
            ("user", 0xA80425FB, 0),
            ("narrow", 0xA80425FB, 0),
            ("free", 0, 0),
            ("privileged", everything, everything),
        ):
            found = facts(pod.pid(name))
            assert int(found["CapBnd"], 16) == bounding & everything, name
            assert {int(found[key], 16) for key in ("CapPrm", "CapEff")} == {effective & everything}, name
            assert {found[key] for key in ("CapInh", "CapAmb")} == {"0" * 16}, name

    def test_limits(self, pod: runtime.Pod) -> None:
        """Neither the caller's soft limits nor, where the machine allows it, his hard ones (pods.md 1.5)."""
        may = int(facts(os.getpid())["CapEff"], 16) >> runtime.CAP_SYS_RESOURCE & 1
        lines = pathlib.Path(f"/proc/{pod.pid('default')}/limits").read_text().splitlines()
        found = {line[:26].strip(): line[26:].split()[:2] for line in lines}
        assert pod.exec("cat", "/proc/self/limits", container="default").out.splitlines() == lines
        assert found["Max open files"][0] == "1024"
        assert found["Max stack size"][0] == "8388608"
        if may:
            assert found["Max open files"] == ["1024", "524288"]
            assert found["Max core file size"] == found["Max processes"] == ["unlimited", "unlimited"]

    def test_groups(self, pod: runtime.Pod) -> None:
        """fsGroup is one of the process's groups; with Strict nothing of the image's /etc/group is."""
        assert facts(pod.pid("user"))["Groups"].split() == ["2000", "3000", "4000"]
        assert facts(pod.pid("default"))["Groups"].split() == ["0", "3000", "4000"]


class TestNotCreated:
    """Reasons and messages are the kubelet's and containerd's."""

    @pytest.mark.parametrize("name", REFUSED)
    def test_why(self, pod: runtime.Pod, name: str) -> None:
        pod.until(lambda each: name not in each.status()["podlab"]["pids"] and each.container(name).get("state"))
        state = pod.container(name)["state"]
        said = state.get("waiting") or state["terminated"]
        assert said["reason"] == ("CreateContainerConfigError" if name == "root" else "CreateContainerError")
        assert REFUSED[name][1].format(filters.PROFILES) in said["message"]
        path = pod.lab.cgroup(f"{pod.config['cgroup_parent']}/{pod.container(name)['containerID'].partition('//')[2]}")
        assert not cgroup.detect().exists(path)


def calls(text: str) -> dict[str, int]:
    return {name: int(value) for name, _, value in (line.partition("=") for line in text.splitlines())}


EPERM, ENOSYS = errno.EPERM, errno.ENOSYS
OF_ADMIN = ("mount", "umount2", "setns", "bpf", "perf_event_open", "fsopen", "sethostname")
NEVER = ("keyctl", "add_key", "io_uring_setup", "userfaultfd", "pivot_root", "reboot", "open_by_handle_at")


@NEEDS_COMPILER
class TestCalls:
    """Real calls in real containers."""

    def test_runtime_default(self, pod: runtime.Pod) -> None:
        found = calls(pod.sh("/tools/calls"))
        denied = (*OF_ADMIN, *NEVER, "clone_newuser", "unshare_mounts", "unshare_user", "af_alg", "af_vsock")
        denied += ("af_alg_wide", "personality_no_random")
        assert {name for name in found if found[name] == EPERM} == set(denied)
        assert (found["clone3"], found["newest"], found["mkdir"]) == (ENOSYS, ENOSYS, errno.ENOENT)
        fine = ("getpid", "clone", "af_unix", "af_inet", "personality_query", "personality_linux32", "ptrace", "chroot")
        assert {name for name in found if found[name] == 0} == set(fine)

    def test_with_sys_admin(self, pod: runtime.Pod) -> None:
        found = calls(pod.sh("/tools/calls", container="admin"))
        assert {name for name in OF_ADMIN if found[name] == EPERM} == set()
        assert {name for name in NEVER if found[name] != EPERM} == set()
        assert (found["clone3"], found["unshare_mounts"], found["af_vsock"]) == (0, 0, EPERM)

    def test_unconfined(self, pod: runtime.Pod) -> None:
        """The kernel's own rules: with no capability at all a user namespace can still be had."""
        found = calls(pod.sh("/tools/calls", container="free"))
        assert (found["clone3"], found["personality_no_random"], found["unshare_user"]) == (0, 0, 0)
        assert found["sethostname"] == EPERM

    def test_a_profile_of_the_node(self, pod: runtime.Pod) -> None:
        found = calls(pod.sh("/tools/calls", container="local"))
        assert (found["mkdir"], found["personality_no_random"]) == (errno.ENOTTY, 0)
        assert "Inappropriate ioctl" in pod.exec("mkdir", "/tmp/x", container="local").err

    def test_a_setuid_program_gains_nothing(self, pod: runtime.Pod) -> None:
        """allowPrivilegeEscalation: false; where it may, the same program becomes root."""
        assert pod.sh("/tools/who am i", container="gaining") == "0\n"
        assert pod.sh("/tools/who am i", container="user") == "1000\n"

    def test_runc_has_the_same_answers(self, pod: runtime.Pod, tools: pathlib.Path, tmp_path: pathlib.Path) -> None:
        """The same program under runc with the same profile, which libseccomp compiles."""
        if shutil.which("runc") is None:
            pytest.skip("needs runc")
        root = tmp_path / "rootfs"
        for name in ("proc", "dev", "tmp"):
            (root / name).mkdir(parents=True)
        shutil.copy(tools / "calls", root / "calls")
        kernel = tuple(int(part) for part in os.uname().release.split(".")[:2])
        caps = [f"CAP_{name}" for name in capabilities.DEFAULT]
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/calls"],
                "cwd": "/",
                "capabilities": {key: caps for key in ("bounding", "effective", "permitted")},
            },
            "root": {"path": str(root)},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
                "seccomp": seccomp_default.profile(capabilities.DEFAULT, os.uname().machine, kernel),  # type: ignore[arg-type]
            },
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        command = ["runc", "--root", str(tmp_path / "state"), "run", "--bundle", str(tmp_path), "calls"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode and not done.stdout:
            pytest.skip(f"runc does not run here: {done.stderr.strip()[-200:]}")
        assert calls(done.stdout) == calls(pod.sh("/tools/calls"))


@pytest.mark.parametrize("machine", seccomp_filter.ABIS)
def test_the_kernel_takes_the_program(machine: str) -> None:
    """Also that of another architecture, where its first call then kills."""
    read = seccomp_filter.read(seccomp_default.profile((), machine, (6, 1)), (), machine, (6, 1))
    packed = seccomp.pack(read.flags, seccomp_filter.compile_profile(read, machine))
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            code = 3
            seccomp.install(packed)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if machine == os.uname().machine:
        assert os.waitstatus_to_exitcode(status) == 0
    else:
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS

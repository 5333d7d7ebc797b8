"""podlab_pod's plan: what is started, started again, deleted, or left alone."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from podlab import pod_plan
from podlab.errors import PodlabError
from podlab.runtime import files, narrate, paths
from podlab.step import Item
from support.planned import ALIVE, GONE, cluster, pod, there

ROOT = pathlib.Path(__file__).resolve().parents[1]
GOING = {"deletionTimestamp": "2026-01-01T00:00:00.000000000Z"}


@pytest.fixture(autouse=True)
def roots(podlab_roots: pathlib.Path) -> None:
    """State in the test's directory, where what pods are launched by has been noted."""
    os.makedirs(paths.cluster_dir("kind"))
    files.write_json(paths.launch_file("kind"), {"images": {}, "max_container_restart_period": 300})


def request(*pods: Any, **options: Any) -> pod_plan.Pods:
    params = {
        "cluster": cluster().to_dict(),
        "pods": list(pods),
        "services": [],
        "images": {},
        "exclusive": False,
        "grace_period": None,
        "wait": False,
        "max_container_restart_period": 300,
        "state": "present",
    }
    return pod_plan.Pods(pod_plan.Request({**params, **options}))


def told(items: Sequence[Item]) -> dict[str, str]:
    """Item -> its first step and why; empty when nothing is to be done."""
    return {each.name: f"{each.steps[0].kind}: {each.steps[0].why}" if each.steps else "" for each in items}


START = "cgroup.create: "
PRESENT = [
    ("nothing there", None, START + "missing"),
    ("it runs", {}, ""),
    ("it has succeeded", {"supervisor": GONE, "phase": "Succeeded"}, ""),
    ("it has failed", {"supervisor": GONE, "phase": "Failed"}, ""),
    ("its supervisor is gone", {"supervisor": GONE}, START + "its supervisor is gone"),
    ("it is going", {"delete": GOING}, START + "deleted and wanted again"),
    ("it was going when it was lost", {"supervisor": GONE, "delete": GOING}, START + "its supervisor is gone"),
]


@pytest.mark.parametrize(("_case", "before", "expected"), PRESENT, ids=[row[0] for row in PRESENT])
@pytest.mark.parametrize("exclusive", [True, False])
def test_a_wanted_pod(_case: str, before: dict[str, Any] | None, expected: str, exclusive: bool) -> None:
    web = pod("web")
    if before is not None:
        there(web, **before)
    assert told(request(web, exclusive=exclusive).items()) == {"pod default/web": expected}


KILL = "pod.delete: not wanted"
REMOVE = "pod.remove: not wanted"
UNWANTED = [
    ("it runs", {}, KILL),
    ("it is lost", {"supervisor": GONE}, REMOVE),
    ("it has finished", {"supervisor": GONE, "phase": "Succeeded"}, REMOVE),
    ("it is going", {"delete": GOING}, ""),
]


@pytest.mark.parametrize(("_case", "before", "expected"), UNWANTED, ids=[row[0] for row in UNWANTED])
def test_an_unwanted_pod(_case: str, before: dict[str, Any], expected: str) -> None:
    there(pod("old"), **before)
    there(pod("other"))
    assert told(request(pod("other"), exclusive=True).items()) == {
        "pod default/old": expected,
        "pod default/other": "",
    }
    assert told(request(pod("other")).items()) == {"pod default/other": ""}
    assert told(request(pod("old"), state="absent").items()) == {"pod default/old": expected}


def test_what_pods_are_launched_by_is_noted_for_the_watcher() -> None:
    """By a call for the whole lab only."""
    images = {"busybox": {"id": "x", "layers": [], "config": {}}}
    pods = request(images=images, exclusive=True)
    assert told(pods.items()) == {"launch": "file.write: differs"}
    pods.apply(pods.items())
    assert files.read_json(paths.launch_file("kind"))["images"] == images
    assert pods.items() == request(images={"other": {}}).items() == []


def test_absent_names_only_what_is_there() -> None:
    assert request(pod("never"), state="absent").items() == []


SHORTER = [
    ("than the pod's own", None, 5, True),
    ("than its own, none asked now", None, None, False),
    ("than nothing: it is longer", None, 60, False),
    ("than asked before", 20, 5, True),
    ("just as asked before", 5, 5, False),
    ("longer than asked before", 5, 20, False),
    ("at once", 5, 0, True),
]


@pytest.mark.parametrize(("_case", "before", "now", "again"), SHORTER, ids=[row[0] for row in SHORTER])
def test_a_grace_period_may_only_shrink(_case: str, before: int | None, now: int | None, again: bool) -> None:
    there(pod("old"), delete={**GOING, **({} if before is None else {"grace": before})})
    items = request(pod("old"), state="absent", grace_period=now).items()
    assert told(items) == {"pod default/old": KILL if again else ""}


def test_new_labels_are_written_and_nothing_is_started() -> None:
    there(pod("web"))
    new = pod("web")
    new["metadata"]["labels"] = {"a": "b"}
    plan = request(new)
    (item,) = plan.items()
    assert told([item]) == {"pod default/web": "pod.label: labels or annotations changed"}
    assert item.before["metadata"]["labels"] == {} and item.after["metadata"]["labels"] == {"a": "b"}
    plan.apply([item])
    assert told(plan.items()) == {"pod default/web": ""}


def test_a_node_that_is_none() -> None:
    with pytest.raises(PodlabError) as caught:
        request(pod("web", nodeName="elsewhere")).items()
    assert str(caught.value) == "pod default/web: spec.nodeName elsewhere is no node of the cluster"


class Calls:
    """What the plan asks of the runtime."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.errors: dict[str, str] = {}

    def start(self, pods: Any, _timeout: float) -> dict[str, str]:
        self.made.append(("start", [each["metadata"]["uid"] for each, _ in pods]))
        return {each["metadata"]["uid"]: self.errors.get(each["metadata"]["uid"], "") for each, _ in pods}

    def ask_to_go(self, _cluster: str, uid: str, grace: int | None) -> int:
        self.made.append(("ask", uid, grace))
        return os.dup(0)

    def await_ends(self, fds: list[int], timeout: float) -> None:
        self.made.append(("await", len(fds), timeout))
        for fd in fds:
            os.close(fd)

    def clear(self, _cluster: str, uid: str) -> None:
        self.made.append(("clear", uid))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made = Calls()
    for name in ("start", "ask_to_go", "await_ends", "clear"):
        monkeypatch.setattr(pod_plan.pods, name, getattr(made, name))
    return made


def apply(plan: pod_plan.Pods) -> None:
    plan.apply(plan.items())


def test_starting(calls: Calls) -> None:
    apply(request(pod("a"), pod("b")))
    assert calls.made == [("await", 0, 10.0), ("start", ["uid-a", "uid-b"])]


def test_clearing_comes_before_starting_again(calls: Calls) -> None:
    there(pod("a"), supervisor=GONE)
    apply(request(pod("a")))
    assert calls.made == [("clear", "uid-a"), ("await", 0, 10.0), ("start", ["uid-a"])]


def test_deleting_is_not_waited_for(calls: Calls) -> None:
    there(pod("a"))
    before = sorted(os.listdir("/proc/self/fd"))
    apply(request(exclusive=True))
    assert calls.made == [("ask", "uid-a", None), ("await", 0, 10.0)]
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_deleting_is_waited_for_when_asked(calls: Calls) -> None:
    there(pod("a", terminationGracePeriodSeconds=20))
    there(pod("b", terminationGracePeriodSeconds=40))
    apply(request(exclusive=True, wait=True))
    assert calls.made[2:] == [("await", 2, 50.0), ("clear", "uid-a"), ("clear", "uid-b")]
    calls.made.clear()
    apply(request(exclusive=True, wait=True, grace_period=3))
    assert calls.made[2] == ("await", 2, 13.0)


def test_a_pod_is_replaced_by_one_of_its_name_only_when_it_is_gone(calls: Calls) -> None:
    """A StatefulSet's pod or a bare one: the new one has another uid and the same name."""
    there(pod("a", uid="old"))
    there(pod("other"))
    apply(request(pod("a", uid="new"), exclusive=True))
    assert sorted(calls.made[:2]) == [("ask", "old", None), ("ask", "uid-other", None)]
    assert calls.made[2:] == [("await", 1, 40.0), ("clear", "old"), ("start", ["new"])]


def test_one_that_has_just_ended_is_cleared_away(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_plan.pods, "ask_to_go", lambda *_: -1)
    there(pod("a"))
    apply(request(exclusive=True))
    assert calls.made == [("await", 0, 10.0), ("clear", "uid-a")]


def test_what_could_not_be_started_is_named(calls: Calls) -> None:
    calls.errors = {"uid-a": "its supervisor ended without a word", "uid-b": "c: ErrImagePull: later"}
    with pytest.raises(PodlabError) as caught:
        apply(request(pod("a"), pod("b")))
    assert str(caught.value) == "Cannot start every pod: pod default/a: its supervisor ended without a word"


def test_the_commands_of_a_pod(podlab_roots: pathlib.Path) -> None:
    web = pod(
        "web",
        shareProcessNamespace=False,
        volumes=[
            {"name": "data"},
            {"name": "host", "hostPath": {"path": "/srv"}},
            {"name": "login", "secret": {"secretName": "login", "items": [{"key": "pin", "path": "deep/pin"}]}},
        ],
        securityContext={"fsGroup": 7},
        containers=[
            {
                "name": "c",
                "image": "busybox",
                "command": ["sh", "-c", "echo $(X)"],
                "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
                "volumeMounts": [
                    {"name": "data", "mountPath": "/data"},
                    {"name": "host", "mountPath": "/data/srv", "readOnly": True, "recursiveReadOnly": "Enabled"},
                    {"name": "login", "mountPath": "/login", "subPath": "deep"},
                ],
            },
            {"name": "second", "image": "busybox", "command": ["sleep", "9"]},
        ],
    )
    plan = request(web, images={"busybox": {"id": "sha256:1", "layers": ["/l/bottom", "/l/top"], "config": {}}})
    plan.machine = plan.machine._replace(memory=2**30)
    plan.request.objects["Secret", "default", "login"] = {"data": {"pin": "MTIzNA=="}}
    steps = narrate.pod_steps(plan._config(web), "missing")
    text = "".join(f"{step.kind:<16} {step.typed()}\n" for step in steps)
    text = text.replace(str(podlab_roots), "")
    golden = ROOT / "golden" / "runtime" / "pod-steps.txt"
    assert "MTIzNA" not in text and "1234" not in text
    assert text == golden.read_text()


def test_a_shared_process_namespace_is_joined() -> None:
    shared = pod("web", shareProcessNamespace=True)
    *_, last = narrate.pod_steps(request(shared)._config(shared), "missing")
    assert last.argv[:9] == ("nsenter", "--target", "$PAUSE", "--ipc", "--uts", "--net", "--pid", "unshare", "--mount")


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"privileged": True}, ["chroot"]),
        (
            {"runAsUser": 5, "runAsGroup": 6, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            ["setpriv", "--no-new-privs", "chroot", "--userspec=5:6", "--groups=7"],
        ),
        (
            {"runAsUser": 5, "capabilities": {"drop": ["ALL"], "add": ["SYS_CHROOT"]}},
            ["setpriv", "--bounding-set", "-all,+sys_chroot", "chroot", "--userspec=5", "--groups=7"],
        ),
    ],
)
def test_what_a_person_types_to_become_the_container(context: dict[str, Any], words: list[str]) -> None:
    container = {"name": "c", "image": "busybox", "command": ["x"], "securityContext": context}
    web = pod(
        "web", containers=[container], securityContext={"supplementalGroups": [7]} if "runAsUser" in context else {}
    )
    *_, last = narrate.pod_steps(request(web)._config(web), "missing")
    argv = list(last.argv[last.argv.index("--fork") + 1 : -2])
    assert argv == words


def test_check_mode_tells_and_touches_nothing(run_module: Callable[..., Any]) -> None:
    there(pod("old"))
    there(pod("lost"), supervisor=GONE)
    args = {"cluster": cluster().to_dict(), "pods": [pod("web"), pod("lost")], "exclusive": True}
    before = sorted(os.walk(paths.run_root()))
    result = run_module("podlab_pod", args, check=True, diff=True)
    assert not result.get("failed"), result
    assert result["changed"] is True
    assert {each["name"]: each["changed"] for each in result["results"]} == {
        "pod default/old": True,
        "pod default/web": True,
        "pod default/lost": True,
    }
    assert ["kill", "-TERM", str(ALIVE["pid"])] in result["commands"]
    assert {each["before_header"]: bool(each["after"]) for each in result["diff"]} == {
        "pod default/old": False,
        "pod default/web": True,
        "pod default/lost": True,
    }
    assert [each["pod"]["metadata"]["name"] for each in result["pods"]] == ["lost", "old"]
    assert sorted(os.walk(paths.run_root())) == before


def test_nothing_to_do_is_no_change(run_module: Callable[..., Any]) -> None:
    there(pod("web"))
    result = run_module("podlab_pod", {"cluster": cluster().to_dict(), "pods": [pod("web")], "exclusive": True})
    assert (result["changed"], result["commands"], result["results"][0]["steps"]) == (False, [], [])


@pytest.mark.parametrize("period", [0, 301, -1])
def test_the_restart_period_is_between_1_and_300(run_module: Callable[..., Any], period: int) -> None:
    args = {"cluster": cluster().to_dict(), "pods": [], "max_container_restart_period": period}
    result = run_module("podlab_pod", args)
    assert result["failed"] and result["msg"] == f"max_container_restart_period must be between 1 and 300, not {period}"


def test_info_reads_and_never_changes(run_module: Callable[..., Any]) -> None:
    there(pod("web"))
    there(pod("lost"), supervisor=GONE)
    result = run_module("podlab_pod_info", {"cluster": "kind"}, check=True)
    assert result["changed"] is False
    found = {each["pod"]["metadata"]["name"]: each["status"]["phase"] for each in result["state"]["pods"]}
    assert found == {"web": "Running", "lost": "Unknown"}
    assert run_module("podlab_pod_info", {"cluster": "none"})["state"]["pods"] == []


def test_what_the_api_server_fills_in_may_be_left_out() -> None:
    short = {
        "metadata": {"name": "a", "uid": "u"},
        "spec": {"nodeName": "w1", "containers": [{"name": "c", "image": "busybox"}]},
    }
    asked = request(short).request
    [made] = asked.pods
    assert made["metadata"]["namespace"] == "default"
    assert made["spec"]["restartPolicy"] == "Always"
    assert made["spec"]["containers"][0]["imagePullPolicy"] == "Always"
    assert pod_plan.complete([made], False) == [made], "a complete pod stays as it is"


def test_everything_that_is_missing_is_named_at_once() -> None:
    wrong = [{"metadata": {"name": "a"}}, {"spec": {"containers": [{"name": "c"}]}}]
    with pytest.raises(PodlabError) as caught:
        request(*wrong)
    places = [line.partition(": ")[0].strip() for line in caught.value.message.splitlines() if "is required" in line]
    assert places == [
        *("pods[0].metadata.uid", "pods[0].spec.nodeName", "pods[0].spec.containers"),
        *("pods[1].metadata.uid", "pods[1].metadata.name", "pods[1].spec.nodeName", "pods[1].spec.containers[0].image"),
    ]
    request({"metadata": {"uid": "u"}}, state="absent")


def test_a_cluster_that_is_none_is_one_message() -> None:
    with pytest.raises(PodlabError, match="cluster: is no cluster as Cluster.to_dict makes it: 'nodes' is missing"):
        request(cluster={})


def commands(**spec: Any) -> list[str]:
    """What is told of a pod's start, as it is typed."""
    planned = pod("web", **spec)
    images = {"busybox": {"id": "sha256:1", "layers": ["/l/one"], "config": {}}}
    return [step.typed() for step in narrate.pod_steps(request(planned, images=images)._config(planned), "missing")]


def test_what_is_the_nodes_is_neither_unshared_nor_joined() -> None:
    told = commands(hostNetwork=True, hostPID=True, hostIPC=True)
    assert [line for line in told if line.startswith("unshare")] == ["unshare --mount --fork /pause"]
    assert [line for line in told if line.startswith("ip ") or " sysctl " in line] == []
    assert any(line.startswith("mount --rbind /dev/shm ") for line in told)
    assert told[-1].startswith("nsenter --target '$PAUSE' unshare --mount --fork ")


def test_a_user_namespace_comes_first_and_what_it_sees_is_mapped() -> None:
    told = commands(hostUsers=False)
    assert [line for line in told if line.startswith("unshare")] == [
        "unshare --user --net --ipc --uts --pid --mount --fork /pause"
    ]
    maps = [line for line in told if "_map" in line]
    assert maps == [f"sh -c 'echo 0 $ID_BASE 65536 > /proc/$PAUSE/{kind}_map'" for kind in ("uid", "gid")]
    idmap = "X-mount.idmap=/proc/$PAUSE/ns/user"
    assert f"mount --bind -o '{idmap}' /l/one /l/one" in told
    assert any(line.startswith("mount --rbind") and idmap in line and "/etc/hosts" in line for line in told)
    assert told[-1].startswith("nsenter --target '$PAUSE' --user --ipc --uts --net unshare --mount --pid --fork ")

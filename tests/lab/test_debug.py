"""debug and attach as a person types them: an ephemeral container in a pod of the lab, and a terminal to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import terminal
from support.lab import ROOT, Lab, environment, running, uid_of

pytestmark = pytest.mark.lab

PATIENT = """
apiVersion: v1
kind: Pod
metadata: {name: patient}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - {name: shell, image: busybox, imagePullPolicy: IfNotPresent, command: [sh], stdin: true, tty: true}
    - {name: other, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "1000"]}
"""


@pytest.fixture(scope="module")
def patient(lab: Lab) -> Iterator[str]:
    lab.apply(PATIENT)
    uid = uid_of(lab.pod("patient"))
    lab.until(uid, running, "the pod does not run")
    yield uid
    lab.invoke("delete", "pod", "patient")


def test_a_container_is_added(lab: Lab, patient: str) -> None:
    """Its name is made up, its target's processes are before it, and everything shows it."""
    done = lab.invoke("debug", "patient", "--image", "busybox:latest", "--target", "other", "-c", "probe", "--",
                      "sh", "-c", "cat /proc/1/comm; exec sleep 1000")  # fmt: skip
    assert done.stderr == 'Targeting container "other".\n'
    lab.until(patient, lambda pod: pod["status"].get("ephemeralContainerStatuses"), "it is not in the status")
    [found] = lab.get_json("pods", "patient")
    [spec] = found["spec"]["ephemeralContainers"]
    assert (spec["targetContainerName"], spec["command"][0]) == ("other", "sh")
    [status] = found["status"]["ephemeralContainerStatuses"]
    assert "running" in status["state"]
    assert lab.exec("patient", "cat", "/proc/1/comm", container="probe") == "sleep\n"
    assert "container probe: sleep 1000" in lab.invoke("tree", "patient").stdout
    lines = lab.invoke("inspect", "patient", "-c", "probe").stdout.splitlines()
    assert [line.split()[2:] for line in lines if line.startswith("    pid ")] == [["other"]]
    assert lab.invoke("logs", "patient", "-c", "probe").stdout == "sleep\n"
    # Labels may change: the pod stays, and what was added to it.
    lab.apply(PATIENT.replace("{name: patient}", "{name: patient, labels: {seen: by-a-doctor}}"))
    [found] = lab.get_json("pods", "patient")
    assert found["metadata"]["labels"] == {"seen": "by-a-doctor"}
    assert [each["name"] for each in found["spec"]["ephemeralContainers"]] == ["probe"]


def test_a_terminal_in_it(lab: Lab, patient: str) -> None:
    argv = ("invoke", "debug", "-it", "patient", "--image", "busybox:latest", "--profile", "restricted")
    with terminal.process(argv, rows=24, columns=80, cwd=ROOT, env=environment(lab.name)) as screen:
        # The image's user is root, which the profile forbids: as with kubectl, it never runs.
        screen.expect("does not run: CreateContainerConfigError: container has runAsNonRoot and image will run as root")
        assert screen.wait() == 1
    argv = ("invoke", "debug", "-it", "patient", "--image", "busybox:latest")
    with terminal.process(argv, rows=24, columns=80, cwd=ROOT, env=environment(lab.name)) as screen:
        screen.expect("try pressing enter")
        screen.type("echo $((6 * 7)), PID $$; exit\n")
        text = screen.rest()
        assert screen.wait() == 0
    assert "42, PID 1" in text


def test_attach(lab: Lab, patient: str) -> None:
    argv = ("invoke", "attach", "-it", "patient", "-c", "shell")
    with terminal.process(argv, rows=30, columns=90, cwd=ROOT, env=environment(lab.name)) as screen:
        screen.expect("try pressing enter")
        screen.type("stty size\n")
        screen.expect("30 90")
        screen.type("\x10\x11")
        assert screen.wait() == 0
    done = lab.invoke("attach", "-i", "patient", "-c", "other", stdin="x", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "container other of pod patient reads no standard input: its spec has no stdin: true" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nobody", "--image", "busybox"), 'pods "nobody" not found'),
        (("patient", "--image", "busybox", "--target", "x"), "'x' not found. The pod has: shell, other"),
        (("patient", "--image", "busybox", "-c", "shell"), "the pod has a container 'shell' already"),
        (("patient", "--image", "Not An Image"), "Not An Image"),
        (("patient",), "debug: you must specify an image"),
    ],
)
def test_refused(lab: Lab, patient: str, words: tuple[str, ...], message: str) -> None:
    before = lab.get_json("pods", "patient")[0]["spec"].get("ephemeralContainers")
    done = lab.invoke("debug", *words, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert lab.get_json("pods", "patient")[0]["spec"].get("ephemeralContainers") == before

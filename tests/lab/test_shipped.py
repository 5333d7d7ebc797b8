"""Modules as they travel to another machine: zipped, run once, and removed while what they started goes on."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal

import pytest

from podlab.runtime import paths, watcher
from podlab.runtime.lab import find
from support import waiting
from support.lab import ROOT, Lab, ip_of, pause_of, running, uid_of

pytestmark = pytest.mark.lab

# What runs on the controller whatever the connection; without the others Ansible ships the modules (AnsiballZ).
CONTROLLER_SIDE = ("podlab_lock.py", "podlab_manifests.py")


@pytest.fixture
def actions(tmp_path: pathlib.Path) -> str:
    """A directory of action plugins that run no module in place."""
    for name in CONTROLLER_SIDE:
        shutil.copy(ROOT / "plugins" / "action" / name, tmp_path / name)
    return str(tmp_path)


JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: two}
spec:
  completions: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: ["true"]}]
"""


def ended(lab: Lab) -> int:
    return sum(pod["status"]["phase"] == "Succeeded" for pod in lab.pods("two-"))


def test_a_lab_that_shipped_modules_built_lives_on_without_them(actions: str, tmp_path: pathlib.Path) -> None:
    lab = Lab(f"ship{os.getpid()}")
    try:
        manifest = tmp_path / "job.yaml"
        manifest.write_text(JOB)
        extra = ["-e", json.dumps({"podlab_apply_files": [str(manifest)]})]
        lab.run("ansible-playbook", "playbooks/lab.yml", *extra, ANSIBLE_ACTION_PLUGINS=actions)
        record = watcher.read(lab.name)
        command = pathlib.Path(f"/proc/{record['pid']}/cmdline").read_text()
        # From the copy that a shipped module leaves of itself, not from the checkout.
        assert paths.code_file(lab.name) in command, "the module was not shipped"
        # The supervisor makes the pod anew and the watcher follows: neither may have anything left to import.
        pod = lab.pods("web-")[0]
        os.kill(pause_of(pod), signal.SIGKILL)
        after = lab.until(uid_of(pod), lambda one: running(one) and ip_of(one) != ip_of(pod), "the pod is not back")
        waiting.until(lambda: ip_of(after) in lab.endpoints(), "the watcher has not followed")
        assert watcher.read(lab.name)["error"] == ""
        # What makes the second pod of the Job was started later still.
        waiting.until(lambda: ended(lab) == 2, "the second pod has not followed the first")
        assert watcher.read(lab.name)["error"] == ""
        again = lab.run("ansible-playbook", "playbooks/lab.yml", "--diff", ANSIBLE_ACTION_PLUGINS=actions)
        assert "changed=0" in again.stdout, again.stdout
    finally:
        lab.invoke("down", "--name", lab.name)
    assert find(lab.name).names() == []

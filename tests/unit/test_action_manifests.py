"""The action plugin podlab_manifests, run by ansible-playbook."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from support.lab_objects import cluster

# Playbook after playbook.
pytestmark = pytest.mark.own_machine

ROOT = pathlib.Path(__file__).resolve().parents[2]

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - podlab_manifests:
        cluster: "{{ lab }}"
        manifests_dir: "{{ manifests }}"
      register: planned
    - copy:
        content: "{{ planned | to_json }}"
        dest: "{{ out }}"
      check_mode: false
"""


@pytest.fixture
def play(tmp_path):
    """play(texts, *options): the plugin's result for manifests, by file name."""

    def run(texts, *options):
        manifests = tmp_path / "manifests"
        manifests.mkdir()
        for name, text in texts.items():
            (manifests / name).write_text(text)
        (tmp_path / "play.yml").write_text(PLAY)
        (tmp_path / "vars.json").write_text(
            json.dumps(
                {
                    "ansible_python_interpreter": sys.executable,
                    "lab": cluster().to_dict(),
                    "manifests": str(manifests),
                    "out": str(tmp_path / "out.json"),
                }
            )
        )
        command = [
            str(pathlib.Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            "localhost,",
            "-e",
            f"@{tmp_path}/vars.json",
            *options,
            "play.yml",
        ]
        env = {
            **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
            "PODLAB_RUN": str(tmp_path / "run"),
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        out = tmp_path / "out.json"
        return done, json.loads(out.read_text()) if out.exists() else None

    return run


POD = """
apiVersion: v1
kind: Pod
metadata:
  name: web
  annotations: {note: "{{ lookup('pipe', 'id') }}"}
spec:
  containers: [{name: c, image: busybox, args: ["{{ 1 + 1 }}"]}]
"""


def test_a_virgin_machine_in_check_mode_and_text_stays_literal(play):
    done, result = play({"pod.yaml": POD}, "--check", "--diff")
    assert done.returncode == 0, done.stdout + done.stderr
    assert result["changed"] is False
    planned = result["pods"][0]
    assert planned["metadata"]["annotations"]["note"] == "{{ lookup('pipe', 'id') }}"
    assert planned["spec"]["containers"][0]["args"] == ["{{ 1 + 1 }}"]
    assert planned["spec"]["nodeName"] == "w1"


def test_every_problem_is_reported(play):
    done, result = play({"a.yaml": POD.replace("image:", "imagee:"), "b.yaml": "{apiVersion: v1, kind: Podd}"})
    assert done.returncode == 2
    assert result is None
    text = done.stdout.replace("\\n", "\n")
    assert "The manifests are not valid, 3 problems:" in text
    assert "a.yaml:8: Pod/web: spec.containers[0].imagee: unknown field. Did you mean image?" in text
    assert "b.yaml:1: Podd: kind: podlab does not support the kind Podd yet. Did you mean Pod?" in text

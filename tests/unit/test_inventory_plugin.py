"""The inventory plugin: hosts, groups and variables, and the one error of a config that is not valid."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import pytest
from ansible import constants
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader

from podlab.kube.cluster import Cluster
from podlab.linux import subnets

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "kind"
HEAD = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"
ENVIRONMENT = ("PODLAB_CONFIG", "KIND_CLUSTER_NAME", "PODLAB_NODE_SUBNET", "PODLAB_MANIFESTS", "PODLAB_DOWN")


@pytest.fixture(autouse=True)
def lonely_machine(monkeypatch: pytest.MonkeyPatch, podlab_roots: pathlib.Path) -> None:
    """A machine without routes, a shell without our variables."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(subnets, "_read", lambda name: "")


def plugin() -> Any:
    """The plugin as Ansible loads it."""
    inventory_loader.add_directory(str(ROOT / "plugins" / "inventory"))
    return inventory_loader.get("podlab")


def inventory(directory: pathlib.Path, config: str | None, options: str = "") -> InventoryData:
    """What the plugin makes of directory/lab.podlab.yml beside directory/cluster.yaml."""
    if config is not None:
        (directory / "cluster.yaml").write_text(config, encoding="utf-8")
    file = directory / "lab.podlab.yml"
    file.write_text(f"plugin: podlab\nconfig: cluster.yaml\n{options}", encoding="utf-8")
    data = InventoryData()
    module = plugin()
    assert module.verify_file(str(file))
    module.parse(data, DataLoader(), str(file))
    data.reconcile_inventory()
    return data


def variables(data: InventoryData, host: str) -> dict[str, Any]:
    """The variables of a host, less the ones that every host has."""
    found = data.get_host(host)
    assert found is not None
    return {key: value for key, value in found.vars.items() if key.startswith(("podlab", "ansible_")) and value != {}}


def test_hosts_and_groups(tmp_path: pathlib.Path) -> None:
    data = inventory(tmp_path, HEAD + "name: lab\nnodes: [{role: worker}, {role: control-plane}, {role: worker}]\n")
    groups = {name: [host.name for host in group.get_hosts()] for name, group in data.groups.items()}
    assert groups == {
        "all": ["localhost", "lab-control-plane", "lab-worker", "lab-worker2"],
        "ungrouped": [],
        "machines": ["localhost"],
        "nodes": ["lab-control-plane", "lab-worker", "lab-worker2"],
        "control_plane": ["lab-control-plane"],
        "workers": ["lab-worker", "lab-worker2"],
    }


def test_variables_of_a_node(tmp_path: pathlib.Path) -> None:
    data = inventory(tmp_path, HEAD + "name: lab\nnodes: [{role: control-plane}, {role: worker}]\n")
    assert variables(data, "lab-worker") == {
        "ansible_connection": "podlab",
        "ansible_python_interpreter": sys.executable,
        "podlab_cluster_name": "lab",
        "podlab_node": "lab-worker",
        "podlab_node_role": "worker",
        "podlab_node_address": "172.18.0.3",
        "podlab_node_pod_cidr": "10.244.1.0/24",
    }


def test_variables_of_the_machine(tmp_path: pathlib.Path) -> None:
    found = variables(inventory(tmp_path, HEAD), "localhost")
    cluster = found.pop("podlab_cluster")
    assert found == {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "podlab_cluster_name": "kind",
        "podlab_config_file": str(tmp_path / "cluster.yaml"),
        "podlab_manifests_dir": str(tmp_path / "manifests"),
    }
    assert json.loads(json.dumps(cluster)) == cluster
    assert Cluster.from_dict(cluster).nodes[0].name == "kind-control-plane"


def test_names_are_fit_for_ansible(tmp_path: pathlib.Path) -> None:
    data = inventory(tmp_path, HEAD)
    names = [*data.groups, *(name for host in data.hosts.values() for name in host.vars)]
    assert [name for name in names if not name.isidentifier()] == []


def test_the_environment_wins_over_the_inventory_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.yaml").write_text(HEAD + "name: file\nnetworking: {podSubnet: 10.9.0.0/16}\n", encoding="utf-8")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("PODLAB_CONFIG", "mine.yaml")
    monkeypatch.setenv("KIND_CLUSTER_NAME", "env")
    monkeypatch.setenv("PODLAB_NODE_SUBNET", "10.7.0.0/24")
    monkeypatch.setenv("PODLAB_MANIFESTS", "objects")
    options = "name: inventory\npodlab_node_subnet: 10.8.0.0/24\nmanifests: other\n"
    found = variables(inventory(tmp_path, None, options), "localhost")
    assert found["podlab_cluster_name"] == "env"
    assert found["podlab_config_file"] == str(elsewhere / "mine.yaml")
    assert found["podlab_manifests_dir"] == str(elsewhere / "objects")
    assert found["podlab_cluster"]["node_subnet"] == "10.7.0.0/24"
    assert found["podlab_cluster"]["pod_subnet"] == "10.9.0.0/16"


def test_the_inventory_file_wins_over_the_config(tmp_path: pathlib.Path) -> None:
    options = "name: inventory\npodlab_node_subnet: 10.8.0.0/24\nmanifests: other\n"
    found = variables(inventory(tmp_path, HEAD + "name: file\n", options), "localhost")
    assert found["podlab_cluster_name"] == "inventory"
    assert found["podlab_manifests_dir"] == str(tmp_path / "other")
    assert found["podlab_cluster"]["node_subnet"] == "10.8.0.0/24"


def test_other_labs_and_our_own_state_decide_the_node_network(
    tmp_path: pathlib.Path, podlab_roots: pathlib.Path
) -> None:
    for name, subnet in {"other": "172.18.0.0/16", "kind": "172.27.0.0/16"}.items():
        state = podlab_roots / "run" / name
        state.mkdir(parents=True)
        (state / "cluster.json").write_text(json.dumps({"node_subnet": subnet}), encoding="utf-8")
    assert variables(inventory(tmp_path, HEAD), "localhost")["podlab_cluster"]["node_subnet"] == "172.27.0.0/16"
    again = inventory(tmp_path, HEAD, "name: third\n")
    assert variables(again, "localhost")["podlab_cluster"]["node_subnet"] == "172.19.0.0/16"


def recorded(tmp_path: pathlib.Path, podlab_roots: pathlib.Path, config: str) -> dict[str, Any]:
    """The cluster of the inventory, written down as `up` does it."""
    made: dict[str, Any] = variables(inventory(tmp_path, config), "localhost")["podlab_cluster"]
    state = podlab_roots / "run" / made["name"]
    state.mkdir(parents=True, exist_ok=True)
    (state / "cluster.json").write_text(json.dumps(made), encoding="utf-8")
    return made


def test_nat_is_what_it_was_unless_said(
    tmp_path: pathlib.Path, podlab_roots: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [("", False), ("yes", True), ("", True), ("no", False), ("", False)]
    for word, expected in said:
        monkeypatch.setenv("PODLAB_NAT", word)
        assert recorded(tmp_path, podlab_roots, HEAD)["nat"] is expected


def test_a_picked_port_is_kept(tmp_path: pathlib.Path, podlab_roots: pathlib.Path) -> None:
    config = HEAD + "nodes: [{extraPortMappings: [{containerPort: 80}, {containerPort: 81, hostPort: 8081}]}]\n"
    first = recorded(tmp_path, podlab_roots, config)["nodes"][0]["port_mappings"]
    assert first[0]["host_port"] > 0
    assert first[1] == {"listen_address": "0.0.0.0", "host_port": 8081, "container_port": 81, "protocol": "TCP"}
    assert recorded(tmp_path, podlab_roots, config)["nodes"][0]["port_mappings"] == first


@pytest.mark.parametrize("config", [None, HEAD + "name: [", HEAD + "nodes: [{role: x}]"])
def test_down_needs_no_config(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, config: str | None) -> None:
    monkeypatch.setenv("PODLAB_DOWN", "1")
    data = inventory(tmp_path, config)
    assert list(data.hosts) == ["localhost"]
    assert variables(data, "localhost") == {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "podlab_cluster_name": "kind",
    }


def test_down_takes_the_name_that_up_had(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODLAB_DOWN", "1")
    config = HEAD + "name: lab\nnodes: [{role: no longer valid}]\n"
    assert variables(inventory(tmp_path, config), "localhost")["podlab_cluster_name"] == "lab"
    monkeypatch.setenv("KIND_CLUSTER_NAME", "env")
    assert variables(inventory(tmp_path, config), "localhost")["podlab_cluster_name"] == "env"


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("lab.podlab.yml", True),
        ("podlab.yaml", True),
        ("xpodlab.yml", False),
        ("lab.yml", False),
        ("podlab.json", False),
    ],
)
def test_files_by_suffix(tmp_path: pathlib.Path, name: str, ours: bool) -> None:
    (tmp_path / name).write_text("plugin: podlab\n", encoding="utf-8")
    assert plugin().verify_file(str(tmp_path / name)) is ours


def test_warnings_are_shown_and_do_not_stop(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("ansible.utils.display.Display.warning", lambda self, message, **rest: shown.append(message))
    assert "kind-control-plane" in inventory(tmp_path, HEAD + "featureGates: {A: true}\n").hosts
    assert len(shown) == 1 and "featureGates: has no effect" in shown[0]


def test_an_invalid_config_is_an_ordinary_parse_error_when_ansible_may_go_on(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "INVENTORY_ANY_UNPARSED_IS_FAILED", False)
    with pytest.raises(AnsibleParserError, match=r"cluster\.yaml:3: nodez: unknown field. Did you mean nodes\?"):
        inventory(tmp_path, HEAD + "nodez: []\n")


def playbook(directory: pathlib.Path, config: str) -> tuple[int, str]:
    """Exit code and error output of ansible-playbook with that config."""
    (directory / "play.yml").write_text("- hosts: machines\n  gather_facts: false\n  tasks: []\n", encoding="utf-8")
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "PODLAB_CONFIG": config,
    }
    command = [sys.executable, "-m", "ansible", "playbook", "play.yml"]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_an_invalid_config_is_one_error_of_ansible_playbook(tmp_path: pathlib.Path) -> None:
    shutil.copy(GOLDEN / "mistakes.yaml", tmp_path)
    expected = (GOLDEN / "ansible-playbook-mistakes.txt").read_text(encoding="utf-8")
    assert playbook(tmp_path, "mistakes.yaml") == (4, expected)


def test_a_missing_config_is_one_error_of_ansible_playbook(tmp_path: pathlib.Path) -> None:
    code, error = playbook(tmp_path, "gone.yaml")
    assert code == 4
    assert error == (
        f"[ERROR]: Cannot read the cluster config {tmp_path}/gone.yaml: No such file or directory. "
        "Set PODLAB_CONFIG, or config in the inventory file, to the path of one\n"
    )

# SPDX-License-Identifier: Apache-2.0
"""kind's cluster config in, Ansible hosts out."""

from __future__ import annotations

DOCUMENTATION = """
name: podlab
short_description: Machines and nodes of a podlab lab, from a kind cluster config
description:
  - Reads a kind cluster config (C(kind.x-k8s.io/v1alpha4)) and makes one host of the machine that carries the lab
    and one of every node.
  - The group C(machines) holds C(localhost). Playbooks that build the lab run there; its variable C(podlab_cluster)
    holds the whole cluster.
  - The group C(nodes), with C(control_plane) and C(workers) below it, holds the nodes under the names that kind gives
    them, reached through the connection plugin C(podlab).
  - Both run modules with the Python that runs Ansible itself. It exists for certain, and nodes share the machine's
    file tree.
  - An environment variable wins over the same option in the inventory file. A relative path in it starts at the
    current directory, one in the file starts at the file.
  - Every problem of the config is reported at once, with file and line.
options:
  plugin:
    description: Marks the file as one for this plugin.
    required: true
    choices: [podlab]
  config:
    description: The kind cluster config.
    type: str
    default: ../../clusters/default/cluster.yaml
    env:
      - name: PODLAB_CONFIG
  name:
    description: Name of the cluster. Wins over the config's, which is C(kind) when it says nothing.
    type: str
    default: ''
    env:
      - name: KIND_CLUSTER_NAME
  podlab_node_subnet:
    description:
      - IPv4 range of the node network.
      - Without it a lab that is up keeps its range, and a new one gets the first of 172.18.0.0/16 to 172.31.0.0/16,
        then of 192.168.0.0/20 and the next, that no route or address of the machine, no other lab and no subnet of
        the config overlaps.
    type: str
    default: ''
    env:
      - name: PODLAB_NODE_SUBNET
  nat:
    description:
      - Whether the machine forwards and masquerades what the lab sends outside, C(yes) or C(no).
      - Without it a lab that is up keeps what it has, and a new one does not reach the outside.
    type: str
    choices: ['', 'yes', 'no']
    default: ''
    env:
      - name: PODLAB_NAT
  manifests:
    description: Directory of Kubernetes manifests; when empty, the directory C(manifests) beside the config.
    type: str
    default: ''
    env:
      - name: PODLAB_MANIFESTS
  name_only:
    description:
      - Make only C(localhost), with C(podlab_cluster_name), whatever the config says and even when it is gone.
        Taking a lab down needs no more.
    type: bool
    default: false
    env:
      - name: PODLAB_DOWN
"""

EXAMPLES = """
# inventory/local/lab.podlab.yml
plugin: podlab
config: ../../clusters/default/cluster.yaml
"""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleParserError, ExitCode
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin

try:
    import podlab  # noqa: F401
except ImportError:  # run from the tree, without `pip install -e .`
    sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from podlab.errors import PodlabError, Problem, refuse
from podlab.kube import cluster as clusters
from podlab.kube import kindconfig, ports
from podlab.kube.kind_types import DEFAULT_NAME, Config
from podlab.linux import sockets, subnets
from podlab.runtime import gateway, paths
from podlab.runtime.state import read_cluster

SUFFIXES = ("podlab.yml", "podlab.yaml")
MACHINE = "localhost"
GROUPS = {"control-plane": "control_plane", "worker": "workers"}


class InventoryModule(BaseInventoryPlugin):
    """Hosts and groups from a kind cluster config."""

    NAME = "podlab"

    directory = ""

    def verify_file(self, path: str) -> bool:
        """Ours are files called podlab.yml or something.podlab.yml."""
        name = os.path.basename(path)
        ours = any(name == suffix or name.endswith(f".{suffix}") for suffix in SUFFIXES)
        return ours and bool(super().verify_file(path))

    def parse(self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True) -> None:
        """Fill the inventory. Raises AnsibleParserError that lists every problem."""
        super().parse(inventory, loader, path, cache)
        said = self._read_config_data(path)
        self.set_options(direct=without_environment(said, self.NAME))
        self.directory = os.path.dirname(os.path.abspath(path))
        try:
            self._fill()
        except PodlabError as error:
            if not C.INVENTORY_ANY_UNPARSED_IS_FAILED:
                raise AnsibleParserError(error.message) from None
            # Raised, it would be shown twice, then what every other inventory plugin has to say to our file.
            self.display.error(error.message, wrap_text=False)
            raise SystemExit(ExitCode.PARSER_ERROR) from error

    def _path(self, option: str) -> str:
        """An option's path: from the current directory when the environment says it, else from the inventory file."""
        said_by_environment = any(map(os.environ.get, environment_names(self.NAME, option)))
        start = os.getcwd() if said_by_environment else self.directory
        return os.path.normpath(os.path.join(start, str(self.get_option(option))))

    def _fill(self) -> None:
        config_file = self._path("config")
        for group in ("machines", "nodes", *GROUPS.values()):
            self.inventory.add_group(group)
        for group in GROUPS.values():
            self.inventory.add_child("nodes", group)
        self._add_host(MACHINE, "machines", {"ansible_connection": "local"})
        if self.get_option("name_only"):
            self._set(MACHINE, {"podlab_cluster_name": self._bare_name(config_file)})
            return
        lab = self._lab(config_file)
        beside = os.path.join(os.path.dirname(config_file), "manifests")
        facts = {
            "podlab_cluster_name": lab.name,
            "podlab_cluster": lab.to_dict(),
            "podlab_config_file": config_file,
            "podlab_manifests_dir": self._path("manifests") if self.get_option("manifests") else beside,
        }
        self._set(MACHINE, facts)
        for node in lab.nodes:
            self._add_host(node.name, GROUPS[node.role], node_variables(lab.name, node))

    def _add_host(self, name: str, group: str, variables: Mapping[str, Any]) -> None:
        self.inventory.add_host(name, group=group)
        self._set(name, {"ansible_python_interpreter": sys.executable, **variables})

    def _set(self, host: str, variables: Mapping[str, Any]) -> None:
        for name, value in variables.items():
            self.inventory.set_variable(host, name, value)

    def _lab(self, config_file: str) -> clusters.Cluster:
        config, problems = self._config(config_file)
        for problem in problems:
            if problem.level == "warning":
                self.display.warning(str(problem))
        refuse(problems, "The cluster config is not valid")
        networking = config.networking
        ranges = {"podSubnet": networking.pod_subnet, "serviceSubnet": networking.service_subnet}
        used = subnets.in_use(config.name, clusters.uplink_name(config.name), paths.run_root())
        wanted = str(self.get_option("podlab_node_subnet"))
        subnet = subnets.node_subnet(wanted, len(config.nodes), ranges, used)
        machine = platform.machine()
        arch = clusters.ARCHITECTURES.get(machine, machine)
        before = read_cluster(config.name)
        nat = self.get_option("nat")
        wanted = nat == "yes" if nat else before is not None and before.nat
        lab = clusters.build(config, config.name, subnet, arch=arch, nat=wanted)
        taken = [one.host_port for _, _, one in gateway.mapped_elsewhere(lab.name)]
        return ports.settle(lab, before, sockets.free_port, taken)

    def _config(self, config_file: str) -> tuple[Config, list[Problem]]:
        try:
            text = Path(config_file).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise PodlabError(f"{config_file}: is not UTF-8 text (byte {error.start})") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise PodlabError(
                f"Cannot read the cluster config {config_file}: {reason}. "
                "Set PODLAB_CONFIG, or config in the inventory file, to the path of one"
            ) from error
        return kindconfig.load(text, shown(config_file), str(self.get_option("name")) or None)

    def _bare_name(self, config_file: str) -> str:
        """The cluster's name, from whatever can still be read."""
        name = str(self.get_option("name"))
        if name:
            return name
        try:
            return self._config(config_file)[0].name
        except PodlabError:
            return DEFAULT_NAME


def node_variables(cluster: str, node: clusters.Node) -> dict[str, Any]:
    """The host variables of a node."""
    return {
        "ansible_connection": "podlab",
        "podlab_cluster_name": cluster,
        "podlab_node": node.name,
        "podlab_node_role": node.role,
        "podlab_node_address": node.address,
        "podlab_node_pod_cidr": node.pod_cidr,
    }


def environment_names(plugin: str, option: str) -> list[str]:
    """The environment variables that set an option of the plugin; an empty one says nothing."""
    definitions = C.config.get_configuration_definitions("inventory", plugin)
    return [env["name"] for env in definitions.get(option, {}).get("env", ())]


def without_environment(said: Mapping[str, Any], plugin: str) -> dict[str, Any]:
    """What the inventory file says, less what the environment says otherwise: Ansible would have it the other way."""
    return {
        option: value
        for option, value in said.items()
        if not any(map(os.environ.get, environment_names(plugin, option)))
    }


def shown(path: str) -> str:
    """The path as messages name it: short when it is below the current directory."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative

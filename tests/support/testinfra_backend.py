"""testinfra inside a node: testinfra.get_host("podlab://kind-worker").

Commands run by nsenter in the namespaces of the node's pause process: a millisecond each, where testinfra's
ansible:// would start the ansible command for every one.
"""

from __future__ import annotations

import json
import os
from typing import Any

from testinfra.backend import base

from podlab.runtime import paths


class PodlabBackend(base.BaseBackend):
    """Run commands inside the node NAME of the lab "kind", or of another one: podlab://CLUSTER@NODE."""

    NAME = "podlab"

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.node, cluster = self.parse_containerspec(name)
        self.cluster = cluster or self.node.partition("-")[0]
        super().__init__(name, *args, **kwargs)

    def pid(self) -> int:
        """The node's pause process. Read every time: a node that was made again has another one."""
        path = paths.node_file(self.cluster, self.node)
        try:
            with open(path, encoding="utf-8") as file:
                pid = int(json.load(file)["pid"])
        except FileNotFoundError:
            raise RuntimeError(f"Node {self.node} of lab {self.cluster} is not there: no {path}") from None
        if not os.path.exists(f"/proc/{pid}"):
            raise RuntimeError(f"Node {self.node} of lab {self.cluster} is down: its process {pid} has ended")
        return pid

    def run(self, command: str, *args: str, **kwargs: Any) -> base.CommandResult:
        """The command by /bin/sh -c in the node; %s in it are quoted args, as everywhere in testinfra."""
        line = self.get_command(command, *args)
        flags = "--mount --uts --ipc --net --pid --cgroup"
        result = self.run_local(f"nsenter --target %s {flags} /bin/sh -c %s", str(self.pid()), line)
        result.command = self.encode(line)
        return result

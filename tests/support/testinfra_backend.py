"""testinfra inside a node: testinfra.get_host("podlab://kind-worker").

Commands run by nsenter in the namespaces of the node's pause process: a millisecond each, where testinfra's
ansible:// would start the ansible command for every one.
"""

from __future__ import annotations

import glob
import json
from typing import Any

from testinfra.backend import base

from podlab.linux import process
from podlab.runtime import paths

FLAGS = "--mount --uts --ipc --net --pid --cgroup"


class PodlabBackend(base.BaseBackend):
    """Run commands inside a node of this machine's labs; podlab://CLUSTER@NODE where two have one of that name."""

    NAME = "podlab"

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.node, cluster = self.parse_containerspec(name)
        self.pattern = paths.node_file(cluster or "*", self.node)
        super().__init__(name, *args, **kwargs)

    def pid(self) -> int:
        """The node's pause process. Looked up every time: a node that was made again has another one."""
        files = glob.glob(self.pattern)
        if len(files) != 1:
            raise RuntimeError(f"{len(files)} labs have a node {self.node}: looked for {self.pattern}")
        with open(files[0], encoding="utf-8") as file:
            record = json.load(file)
        if not process.alive(record["pid"], record["start"]):
            raise RuntimeError(f"Node {self.node} is down: its process {record['pid']} has ended")
        return int(record["pid"])

    def run(self, command: str, *args: str, **kwargs: Any) -> base.CommandResult:
        """The command by /bin/sh -c in the node; %s in it are quoted args, as everywhere in testinfra."""
        line = self.get_command(command, *args)
        result = self.run_local(f"nsenter --target %s {FLAGS} -- /bin/sh -c %s", str(self.pid()), line)
        result.command = self.encode(line)
        return result

"""The smallest lab that is one: a node, a pod with a Service before it; made on a machine that a test may wreck."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from support.machine import Done, Machine

SERVER = """
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: httpd
      image: busybox
      command: [sh, -c, 'mkdir /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www']
      ports: [{containerPort: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, clusterIP: 10.96.0.80, ports: [{port: 80}]}
"""


def pod(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    """A pod of one busybox container that runs the command, else sleeps. spec: of the container, or of the pod."""
    of_pod = ("volumes", "securityContext", "shareProcessNamespace")
    container = {"name": "c", "image": "busybox", "command": list(command) or ["sleep", "10000"]}
    container.update({key: value for key, value in spec.items() if key not in of_pod})
    body = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    body.update({key: value for key, value in spec.items() if key in of_pod})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


def yaml_of(objects: Sequence[Mapping[str, Any]]) -> str:
    """The objects as one manifest."""
    return yaml.safe_dump_all(objects)


class SmallLab:
    """One lab on a machine, by its name, with its own files."""

    def __init__(
        self, machine: Machine, directory: pathlib.Path, name: str, manifests: str = SERVER, config: str = ""
    ) -> None:
        self.machine = machine
        self.name = name
        self.directory = directory / name
        (self.directory / "manifests").mkdir(parents=True)
        self.config = self.directory / "cluster.yaml"
        self.config.write_text(f"kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nname: {name}\n{config}")
        self.manifest = self.directory / "manifests" / "all.yaml"
        self.manifest.write_text(manifests)
        self.environment = {"PODLAB_CONFIG": str(self.config), "KIND_CLUSTER_NAME": name}
        self.state = f"/run/podlab/{name}"

    def invoke(self, command: str, *words: str, **options: Any) -> Done:
        """A command of the menu, whatever its end."""
        environment = {"KIND_CLUSTER_NAME": self.name, **options.pop("environment", {})}
        return self.machine.run("invoke", command, *words, environment=environment, **options)

    def up(self, *words: str) -> str:
        """`up`, which must succeed; its output."""
        done = self.invoke("up", "--config", str(self.config), *words)
        assert done.returncode == 0, done.text
        return done.text

    def down(self, *words: str) -> str:
        """`down`, which must succeed; its output."""
        done = self.invoke("down", *words)
        assert done.returncode == 0, done.text
        return done.text

    def try_exec(self, pod_name: str, *command: str, **options: Any) -> Done:
        """A command in a pod, whatever its end."""
        return self.invoke("exec", pod_name, "--", *command, **options)

    def exec(self, pod_name: str, *command: str) -> str:
        """Output of a command in a pod, which must succeed."""
        done = self.try_exec(pod_name, *command)
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.text}"
        return done.stdout

    def assert_works(self) -> None:
        """A pod of the lab gets an answer through its Service, by way of its node."""
        # Debian's static busybox dies of its own wget -T.
        assert self.exec("server", "timeout", "5", "wget", "-qO-", "http://10.96.0.80") == "server\n"

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pods by name, as `get pods -A -o json` has them."""
        done = self.invoke("get", "pods", "-A", "-o", "json")
        assert done.returncode == 0, done.text
        found = json.loads(done.stdout)
        items = found["items"] if found["kind"] == "List" else [found]
        return {item["metadata"]["name"]: item for item in items}

    def there(self, pattern: str) -> list[pathlib.Path]:
        """Files of the lab's state that match."""
        return list(self.machine.path(self.state).glob(pattern))

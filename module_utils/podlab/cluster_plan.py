"""The plans of podlab_cluster: claiming a lab's place, and taking a lab away."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .errors import PodlabError, Problem, refuse
from .kube import configs
from .kube.cluster import Cluster
from .runtime import lab, paths
from .runtime.files import read_json, write_json
from .runtime.state import labs
from .step import Item, Step

# What the whole lab is wired by: it cannot change while the lab is there.
FIXED = {"node_subnet": "podlab_node_subnet", "pod_subnet": "podSubnet", "service_subnet": "serviceSubnet"}


class Claim:
    """The lab's record and its objects, as they should be written down."""

    def __init__(self, cluster: Mapping[str, Any], objects: Mapping[str, Any] | None, secrets: str = "") -> None:
        """secrets: the data of the objects' Secrets, sealed.

        Raises PodlabError when the cluster is none, its name none for a lab, or the data is not of podlab_manifests.
        """
        self.cluster = dict(cluster)
        self.objects = objects
        self.secrets = unsealed(secrets)
        self.name = Cluster.of_option(cluster).name
        lab.check_name(self.name)

    def items(self) -> list[Item]:
        """What has to be written. Raises PodlabError when the lab is up with other networks."""
        before = read_json(paths.cluster_file(self.name), {})
        self._refuse_changes(before)
        wanted = {"cluster.json": (paths.cluster_file(self.name), before, self.cluster)}
        if self.objects is not None:
            file = paths.objects_file(self.name)
            wanted["objects.json"] = (file, read_json(file, {}), dict(self.objects))
        items = [self._item(label, *row) for label, row in wanted.items()]
        data = read_json(paths.secrets_file(self.name), {})
        secret = self.objects is not None and (data or self.secrets)
        return [*items, self._secrets_item(data)] if secret else items

    def _secrets_item(self, data: Mapping[str, Any]) -> Item:
        """The data of the Secrets, whose values no diff shows."""
        file = paths.secrets_file(self.name)
        item = self._item("secrets.json", file, data, self.secrets)
        before, after = configs.hidden(data, self.secrets)
        return item._replace(before=before, after=after)

    def _refuse_changes(self, before: Mapping[str, Any]) -> None:
        refuse(
            Problem(
                option,
                f"cannot change while lab {self.name} is up: it is {before[key]}, not {self.cluster[key]}",
                "Take the lab down first: ./lab down",
            )
            for key, option in FIXED.items()
            if before and before.get(key) != self.cluster.get(key)
        )

    def _item(self, label: str, path: str, before: Any, after: Any) -> Item:
        steps = []
        if before != after:
            argv = ("install", "-D", "-m", "600", "/dev/stdin", path)
            why = "changed" if before else "missing"
            steps.append(Step("file.write", path, argv, why, _write, {"path": path, "data": after}))
        return Item(label, steps, before, after)

    def state(self) -> dict[str, Any]:
        """The lab's name and record."""
        return {"name": self.name, "cluster": read_json(paths.cluster_file(self.name), {})}


def _write(path: str, data: Any) -> None:
    directory = os.path.dirname(path)
    # Only root may look: objects may hold what others should not read.
    for made in (paths.run_root(), directory):
        os.makedirs(made, 0o700, exist_ok=True)
    write_json(path, data)


def unsealed(secrets: str) -> dict[str, Any]:
    """The data of Secrets as podlab_manifests has sealed it. Raises PodlabError for anything else."""
    try:
        return configs.unseal(secrets)
    except ValueError:
        raise PodlabError("secrets: is not what podlab_manifests returns as secrets") from None


class Removal:
    """The whole lab, gone."""

    def __init__(self, name: str, purge: bool) -> None:
        self.name = name
        self.purge = purge

    def items(self) -> list[Item]:
        """The steps that take away what is there."""
        found = lab.find(self.name, self.purge)
        others = [other for other in labs() if other != self.name]
        if self.purge and others:
            raise PodlabError(
                f"The image store is not removed: the lab {', '.join(others)} uses it. "
                f"Take it down first (./lab down --name {others[0]}), or leave --purge out"
            )
        steps = lab.removal(self.name, found)
        return [Item(f"lab {self.name}", steps, {"found": found.names()}, {"found": []})]

    def state(self) -> dict[str, Any]:
        """The lab's name and what is there of it."""
        return {"name": self.name, "found": lab.find(self.name, self.purge).names()}

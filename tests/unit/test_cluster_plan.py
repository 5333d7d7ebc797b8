"""What podlab_cluster says that it changes."""

from __future__ import annotations

from typing import Any

from podlab import cluster_plan

CLUSTER: dict[str, Any] = {
    "name": "demo",
    "node_subnet": "172.18.0.0/16",
    "pod_subnet": "10.244.0.0/16",
    "service_subnet": "10.96.0.0/16",
}


def test_the_diff_is_the_objects_not_a_text_with_them_in_it(podlab_roots: Any) -> None:
    objects = {"objects": [{"object": {"kind": "Pod", "metadata": {"name": "one"}}}]}
    items = {item.name: item for item in cluster_plan.Claim(CLUSTER, objects).items()}
    assert items["objects.json"].before == {}
    assert items["objects.json"].after == objects
    assert items["cluster.json"].after == CLUSTER
    assert all(item.steps for item in items.values())

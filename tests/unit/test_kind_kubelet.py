"""The limits of containers' logs, as a kind config's KubeletConfiguration has them."""

from __future__ import annotations

import pytest

from podlab.kube import cluster as clusters
from podlab.kube import kindconfig

CONFIG = """
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
"""
PATCH = """
kubeadmConfigPatches:
- |
  apiVersion: kubelet.config.k8s.io/v1beta1
  kind: KubeletConfiguration
"""


@pytest.mark.parametrize(
    ("more", "size", "files"),
    [
        ("", 10 * 1024 * 1024, 5),
        (PATCH + "  containerLogMaxSize: 1Mi\n", 1024 * 1024, 5),
        (PATCH + "  containerLogMaxFiles: 2\n", 10 * 1024 * 1024, 2),
        (PATCH + '  containerLogMaxSize: "500"\n  containerLogMaxFiles: 3\n', 500, 3),
        (PATCH + '  containerLogMaxSize: "-1"\n', -1, 5),
    ],
)
def test_the_limits_of_logs(more: str, size: int, files: int) -> None:
    config, found = kindconfig.load(CONFIG + more, "cluster.yaml")
    assert found == []
    made = clusters.build(config, "kind", "172.18.0.0/16")
    assert (made.container_log_max_size, made.container_log_max_files) == (size, files)
    assert clusters.Cluster.from_dict(made.to_dict()) == made


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("containerLogMaxSize: much", "containerLogMaxSize must be a quantity"),
        ("containerLogMaxFiles: 1", "containerLogMaxFiles must be a number above 1, not 1"),
        ("containerLogMaxFiles: many", "containerLogMaxFiles must be a number above 1, not 'many'"),
    ],
)
def test_what_the_kubelet_would_not_start_with_is_refused(line: str, message: str) -> None:
    _, [problem] = kindconfig.load(f"{CONFIG}{PATCH}  {line}\n", "cluster.yaml")
    assert problem.level == "error" and message in str(problem)

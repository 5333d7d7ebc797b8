"""Ranges of IDs for pods with hostUsers: false, as noted in the pods' directories."""

from __future__ import annotations

import json
import os

import pytest

from podlab.errors import PodlabError
from podlab.runtime import idranges, paths


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("PODLAB_RUN", str(tmp_path))
    return tmp_path


def config(uid, cluster="kind", host_users=False):
    directory = paths.pod_dir(cluster, uid)
    os.makedirs(directory, exist_ok=True)
    return {"cluster": cluster, "uid": uid, "host_users": host_users}


def test_the_lowest_that_no_pod_of_any_lab_has(run):
    assert idranges.given(config("a"))["id_base"] == 65536
    assert idranges.given(config("b", "other"))["id_base"] == 2 * 65536
    assert idranges.given(config("c"))["id_base"] == 3 * 65536


def test_it_stays_the_pods_and_is_noted_as_the_kubelet_notes_it(run):
    first = idranges.given(config("a"))
    idranges.given(config("b"))
    assert idranges.given(config("a")) == first
    mapping = [{"hostId": 65536, "containerId": 0, "length": 65536}]
    noted = json.loads((run / "kind/pods/a/userns").read_text())
    assert noted == {"uidMappings": mapping, "gidMappings": mapping}


def test_it_is_free_when_the_pod_is_gone(run):
    idranges.given(config("a"))
    idranges.given(config("b"))
    (run / "kind/pods/a/userns").unlink()
    assert idranges.given(config("c"))["id_base"] == 65536


def test_a_pod_with_the_nodes_users_has_none(run):
    assert idranges.given(config("a", host_users=True)) == config("a", host_users=True)
    assert not (run / "kind/pods/a/userns").exists()


def test_all_taken(run, monkeypatch):
    monkeypatch.setattr(idranges, "LAST", 1)
    idranges.given(config("a"))
    with pytest.raises(PodlabError, match="All 1 ranges of user IDs are taken"):
        idranges.given(config("b"))


def test_no_range_holds_the_id_that_means_none():
    assert (idranges.LAST + 1) * 65536 - 1 < 2**32 - 65536

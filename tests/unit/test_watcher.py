"""The watcher's loop, one turn at a time in the test's own process: what goes wrong is told, and ends nothing."""

from __future__ import annotations

import json
import os
import pathlib
import select
from collections.abc import Iterator
from typing import Any

import pytest

from podlab import service_watch
from podlab.linux import inotify
from podlab.runtime import files, interpreter, paths, watcher
from support.limits import largest_file
from support.services import pod, service

NAME = "kind"
# No kube-proxy and no node: nothing but files, which need no root.
CLUSTER = {
    "name": NAME,
    "pod_subnet": "10.244.0.0/16",
    "kube_proxy_mode": "none",
    "nodes": [{"name": "node-a", "address": "172.18.0.2"}],
}
INPUTS = {"cluster": CLUSTER, "nodes": [], "services": [service(selector={"app": "web"})], "endpoint_slices": []}


@pytest.fixture
def home(podlab_roots: pathlib.Path) -> pathlib.Path:
    made = pathlib.Path(paths.cluster_dir(NAME))
    (made / "pods").mkdir(parents=True)
    files.write_json(paths.proxy_file(NAME), {**INPUTS, "proxy": None, "dns_dir": None, "state_file": None})
    return made


@pytest.fixture
def one(home: pathlib.Path) -> Iterator[service_watch.Watcher]:
    made = service_watch.Watcher(NAME)
    yield made
    os.close(made.inotify.fd)


def broken(home: pathlib.Path, status: Any) -> pathlib.Path:
    """A pod whose status somebody has written over."""
    directory = home / "pods" / "uid"
    directory.mkdir()
    (directory / "pod.json").write_text(json.dumps(pod("web-1", "10.244.1.2")["pod"]))
    (directory / "status.json").write_text(json.dumps(status))
    return directory / "status.json"


def test_a_sync_writes_records_and_state(home: pathlib.Path, one: service_watch.Watcher) -> None:
    one.sync(full=True)
    assert one.record["error"] == "" and not one.ended
    assert "web.default.svc" in (home / "dns" / "records.json").read_text()
    assert watcher.read(NAME)["synced"]


def test_nonsense_in_a_file_is_an_error_of_the_sync(home: pathlib.Path, one: service_watch.Watcher) -> None:
    file = broken(home, ["nonsense"])
    one.sync(full=True)
    assert "AttributeError" in watcher.read(NAME)["error"]
    assert not one.ended and not one.listeners.healthy
    file.write_text("{}")
    one.sync(full=False)
    assert watcher.read(NAME)["error"] == "" and one.listeners.healthy


def test_a_full_disk_ends_nothing_and_is_told_when_there_is_room(
    home: pathlib.Path, one: service_watch.Watcher
) -> None:
    with largest_file(10):
        one.sync(full=True)
        one.sync(full=True)
    assert not one.ended
    assert watcher.read(NAME) == {"alive": False}, "a part of the record was written"
    assert [name for name in os.listdir(home) if name.startswith(".watcher")] == []
    one.sync(full=False)
    assert watcher.read(NAME)["error"] == ""
    assert (home / "services.json").exists()


def test_after_an_error_the_next_sync_is_a_whole_one(
    home: pathlib.Path, one: service_watch.Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is programmed says that all is well: only a look at everything finds what failed."""
    one.sync(full=True)
    looked: list[bool] = []

    def look(full: bool) -> float:
        looked.append(full)
        if full:
            raise OSError(16, "Device or resource busy")
        return service_watch.SYNC_PERIOD

    monkeypatch.setattr(one, "_reconcile", look)
    one.sync(full=True)
    one.sync(full=False)
    assert looked == [True, True]
    assert "busy" in watcher.read(NAME)["error"]


def test_what_cannot_be_watched_is_still_looked_at(home: pathlib.Path, one: service_watch.Watcher) -> None:
    """As when the user's watches are used up: it goes by the period, and says so."""
    read, write = os.pipe()
    os.dup2(read, one.inotify.fd)
    try:
        one.sync(full=True)
    finally:
        os.close(read)
        os.close(write)
    assert (home / "services.json").exists()
    assert "inotify_add_watch: Invalid argument" in watcher.read(NAME)["error"]


def test_a_directory_that_is_not_there_is_no_error(tmp_path: pathlib.Path) -> None:
    with inotify.Inotify() as events:
        assert not events.add(str(tmp_path / "none"), inotify.CREATE)
        assert events.add(str(tmp_path), inotify.CREATE)
        assert not select.select([events.fd], [], [], 0)[0]


def test_other_code_has_another_digest(one: service_watch.Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_json(paths.watcher_file(NAME), one.record)
    assert "service_plan" in one.record["code"]["modules"]
    assert not watcher.outdated(NAME)
    assert "code" not in watcher.read(NAME)
    source = interpreter._source
    monkeypatch.setattr(interpreter, "_source", lambda name: source(name) + "#" * name.endswith(".kube.dns"))
    assert watcher.outdated(NAME)


def test_a_record_without_code_is_of_an_older_one(home: pathlib.Path) -> None:
    files.write_json(paths.watcher_file(NAME), {"pid": 1, "start": 1})
    assert watcher.outdated(NAME)

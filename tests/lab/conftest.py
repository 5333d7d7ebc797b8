"""The lab floor's one lab: `up` before the first test that asks for it, `down` after the last, nothing left."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from support import lab as labs
from support import snapshot

MANIFESTS = pathlib.Path(__file__).parent / "manifests"


@pytest.fixture(scope="session")
def lab() -> Iterator[labs.Lab]:
    """The default lab under a name of this run's own. The machine afterwards is the machine before."""
    before = snapshot.take()
    with labs.made(f"floor{os.getpid()}") as made:
        yield made
    snapshot.assert_same(before, snapshot.take())


@pytest.fixture(scope="session")
def host_directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory of this machine that pods of the extras have as hostPath."""
    return tmp_path_factory.mktemp("host")


@pytest.fixture(scope="session")
def extras(lab: labs.Lab, host_directory: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> labs.Lab:
    """The lab with manifests/extras.yaml applied to it, and a back-off that a test can wait for."""
    control, _, worker = lab.node_names()
    marks = {"@HOST@": str(host_directory), "@CONTROL@": control, "@NODE@": worker}
    directory = tmp_path_factory.mktemp("extras")
    write(directory / "extras.yaml", "extras.yaml", marks)
    for policy in ("Always", "OnFailure", "Never"):
        write(directory / f"{policy}.yaml", "policy.yaml", {"@policy@": policy.lower(), "@Policy@": policy})
    lab.playbook(podlab_apply_files=[str(directory)], pod_max_container_restart_period=2)
    return lab


def write(path: pathlib.Path, template: str, marks: dict[str, str]) -> None:
    """A manifest of manifests/ with its marks replaced."""
    text = (MANIFESTS / template).read_text(encoding="utf-8")
    for mark, value in marks.items():
        text = text.replace(mark, value)
    path.write_text(text, encoding="utf-8")

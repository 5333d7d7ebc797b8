"""References, configurations and recipes of images."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from podlab.errors import PodlabError
from podlab.image_plan import default_policy
from podlab.runtime import image_build
from podlab.runtime.image import clean_config, normalise, split
from podlab.runtime.image_python import source_text
from podlab.runtime.image_recipes import RECIPES, built_in, offers

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("docker.io/library/busybox:latest", "docker.io/library/busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("podlab/dns", "docker.io/podlab/dns:latest"),
        ("registry.k8s.io/pause:3.10.2", "registry.k8s.io/pause:3.10.2"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b-c:v1", "localhost:5000/a/b-c:v1"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("127.0.0.1:5000/a__b", "127.0.0.1:5000/a__b:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"busybox:1.36@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        ("localhost", "docker.io/library/localhost:latest"),
    ],
)
def test_a_reference_has_one_spelling(given: str, normal: str) -> None:
    assert normalise(given) == normal
    assert normalise(normal) == normal


@pytest.mark.parametrize(
    "given",
    ["", ":", "Busybox", "busybox:", "busybox:a b", "a,b:c", "a//b", "/a", "../a", "a/../b", "a\n", "a:-x", "-x",
     "a@sha256:1", "a@", "a:b:c", "x" * 256, "a:" + "t" * 129, "a%2Fb", "busybox\0", "{{ a }}", "docker://a"],
)  # fmt: skip
def test_a_wrong_reference_is_refused_in_kubelets_words(given: str) -> None:
    with pytest.raises(PodlabError, match="InvalidImageName: couldn't parse image name") as caught:
        normalise(given)
    assert caught.value.problems[0].remedy


def test_the_default_policy_is_kubernetes() -> None:
    assert [default_policy(name) for name in ("a", "a:latest", "a:1", f"a@{DIGEST}", f"a:latest@{DIGEST}")] == [
        "Always",
        "Always",
        "IfNotPresent",
        "IfNotPresent",
        "IfNotPresent",
    ]


def test_only_known_keys_of_a_config_are_kept() -> None:
    config = {
        "Env": ["A=1"],
        "Cmd": ["sh"],
        "Entrypoint": None,
        "User": "",
        "WorkingDir": "/x",
        "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
        "StopSignal": "SIGQUIT",
        "Labels": {"podlab.control": "x"},
        "Volumes": {"../../": {}},
        "OnBuild": ["RUN x"],
        "Healthcheck": {"Test": ["CMD", "x"]},
    }
    assert clean_config(config, "x") == {
        "Env": ["A=1"],
        "Cmd": ["sh"],
        "WorkingDir": "/x",
        "ExposedPorts": ["443/tcp", "80/tcp"],
        "StopSignal": "SIGQUIT",
    }
    assert clean_config(None, "x") == {}


@pytest.mark.parametrize(
    "config",
    [{"Cmd": "sh"}, {"Env": [1]}, {"Env": ["NOEQUALS"]}, {"Env": ["=x"]}, {"User": ["root"]}, {"Cmd": ["a\0b"]}, ["x"]],
)
def test_a_config_of_the_wrong_kind_is_refused(config: object) -> None:
    with pytest.raises(PodlabError, match="image some/name"):
        clean_config(config, "some/name")


@pytest.mark.parametrize(
    ("reference", "made"),
    [
        ("busybox", True),
        ("busybox:stable", True),
        ("busybox:1.28", False),
        ("nginx", True),
        ("nginx:1.14.2", False),
        ("registry.k8s.io/pause:3.10.2", True),
        ("docker.io/podlab/dns", True),
        ("example.com/busybox", False),
        (f"busybox@{DIGEST}", False),
    ],
)
def test_only_tags_that_do_not_promise_a_version_are_made_here(reference: str, made: bool) -> None:
    assert (built_in(reference) is not None) == made


def test_every_recipe_is_offered_and_complete() -> None:
    for recipe in RECIPES:
        assert built_in(f"{recipe.repository}:{recipe.tags[0]}") is recipe
        assert clean_config({**recipe.config, "ExposedPorts": {}}, recipe.repository)
    assert offers() == "busybox:latest, registry.k8s.io/pause:latest, nginx:latest, podlab/dns:latest"
    assert split("podlab/dns:latest")[0] == RECIPES[-1].repository


SHIPPED = """
import base64, io, re, sys, zipfile
from ansible.executor import module_common
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader, module_utils_loader
from ansible.template import Templar
root = sys.argv[1]
init_plugin_loader()
module_utils_loader.add_directory(f"{root}/module_utils")
made = module_common.modify_module(
    module_name="podlab_image",
    module_path=f"{root}/library/podlab_image.py",
    module_args={"_ansible_version": "2.19"},
    templar=Templar(loader=DataLoader()),
    task_vars={"ansible_python_interpreter": "/usr/bin/python3"},
)
payload = max(re.findall(rb"'([A-Za-z0-9+/=]{2000,})'", made.b_module_data), key=len)
print(*zipfile.ZipFile(io.BytesIO(base64.b64decode(payload))).namelist(), sep="\\n")
"""


def test_ansible_ships_the_programs_of_images_with_the_module_that_builds_them() -> None:
    """Nothing imports them there: they are only read."""
    root = pathlib.Path(__file__).resolve().parents[2]
    argv = [sys.executable, "-c", SHIPPED, str(root)]
    shipped = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=root).stdout.splitlines()
    programs = [recipe.program for recipe in RECIPES if recipe.program]
    assert programs
    for path in (path for program in programs for path in program.sources):
        assert f"ansible/module_utils/podlab/{path}" in shipped
        assert source_text(path) == (root / "module_utils/podlab" / path).read_text()


def test_an_image_is_made_again_when_a_program_in_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES[-1]
    before = image_build.recipe_mark(recipe)
    real = image_build.source_text
    assert image_build.recipe_mark(recipe) == before
    monkeypatch.setattr(image_build, "source_text", lambda path: real(path) + "#" * path.endswith("dns_tcp.py"))
    assert image_build.recipe_mark(recipe) != before

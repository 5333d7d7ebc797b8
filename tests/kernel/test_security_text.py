"""Rows of the security table about what is read: manifests, layers, configurations of images. The naive one falls."""

from __future__ import annotations

import io
import os
import pathlib
import tarfile

import pytest

from podlab import controller
from podlab.errors import PodlabError
from podlab.kube import manifests, sysctls
from podlab.kube.manifests import Source
from podlab.runtime import image, layers
from support import naive

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine]

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{a: {label}}}
  annotations: {{note: {note}}}
spec:
  containers:
    - name: c
      image: {image}
      env: [{{name: HOME, value: {home}}}]
  securityContext: {{sysctls: [{{name: {sysctl}, value: "{value}"}}]}}
"""
SOUND = {
    "name": "web",
    "label": "b",
    "note": "text",
    "image": "busybox",
    "home": "/",
    "sysctl": "net.ipv4.ip_unprivileged_port_start",
    "value": "0",
}
# What is written -> what podlab answers: "refused", or the path to the value, which stays what it is.
INJECTIONS = [
    ({"name": '"../../etc"'}, "refused"),
    ({"name": '"web\\nroot::0:0::/:/bin/sh"'}, "refused"),
    ({"name": '"a b"'}, "refused"),
    ({"name": '"%2e%2e"'}, "refused"),
    ({"label": """ "{{ lookup('pipe', 'touch MARK') }}" """}, "refused"),
    ({"note": """ "{{ lookup('pipe', 'touch MARK') }}" """}, ("metadata", "annotations", "note")),
    ({"image": '"a,b:c"'}, "refused"),
    ({"image": '"../../x"'}, "refused"),
    ({"home": '"/\\nroot::0:0::/:/bin/sh"'}, ("spec", "containers", 0, "env", 0, "value")),
    ({"sysctl": '"net/../../kernel/core_pattern"'}, "refused"),
    ({"sysctl": "kernel.core_pattern"}, "refused"),
    ({"sysctl": "kernel.shm_rmid_forced", "value": "1+kernel.core_pattern=|/x"}, ("spec", "securityContext")),
    ({"note": '!!python/object/apply:os.system ["touch MARK"]'}, "refused"),
    ({"note": '!!python/object/new:os.system ["touch MARK"]'}, "refused"),
]


@pytest.mark.parametrize(("changed", "answer"), INJECTIONS, ids=lambda value: next(iter(value)) if value else "")
def test_row_23_text_of_a_manifest(tmp_path: pathlib.Path, changed: dict[str, str], answer: object) -> None:
    """CVE-2022-0811 and others: it is data, taken literally or refused, never code, a template or a path."""
    mark = tmp_path / "mark"
    text = POD.format(**{**SOUND, **changed}).replace("MARK", str(mark))
    read = manifests.read([Source("pod.yaml", text)], controller.definitions())
    faults = [str(problem) for problem in read.problems if problem.level == "error"]
    faults += [str(fault) for each in read.manifests for fault in sysctls.forbidden(each.object["spec"], ["*"])]
    assert not mark.exists()
    if answer == "refused":
        assert faults
    else:
        assert faults == []
        found: object = read.manifests[0].object
        for step in answer:  # type: ignore[attr-defined]
            found = found[step]  # type: ignore[index]
        (value,) = changed.values() if len(changed) == 1 else (changed["value"],)
        assert str(found).replace("\n", "\\n") in value.replace("MARK", str(mark)) or value in str(found)
    if "MARK" in text or str(mark) in text:
        naive.read_manifest(text)
        assert mark.exists(), "the naive runtime passes: this check finds nothing"


def archive(path: pathlib.Path, *entries: tuple[str, bytes, dict[str, object]]) -> str:
    """A layer of these entries: name, kind, fields."""
    with tarfile.open(path, "w") as tar:
        for name, kind, fields in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = kind, 0o644
            data = fields.get("data", b"")
            assert isinstance(data, bytes)
            entry.size = len(data)
            for key, value in fields.items():
                if key != "data":
                    setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(data))
    return str(path)


def unpack(file: str, directory: str) -> None:
    with open(file, "rb") as stream:
        try:
            layers.unpack(stream, directory)
        except layers.Refused:
            return


FILE, LINK, HARD, DEVICE, DIRECTORY = (
    tarfile.REGTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.DIRTYPE,
)
X = {"data": b"written"}
LAYERS = {
    "dot dot": [("../victim/new", FILE, X)],
    "dot dot below": [("a/../../victim/new", FILE, X)],
    "through a link": [("out", LINK, {"linkname": "{victim}"}), ("out/new", FILE, X)],
    "through a relative link": [("out", LINK, {"linkname": "../victim"}), ("out/new", FILE, X)],
    "over a link": [("out", LINK, {"linkname": "{victim}/shadow"}), ("out", FILE, X)],
    "a hard link": [("mine", HARD, {"linkname": "{victim}/shadow"})],
    "a hard link, then a file": [("mine", HARD, {"linkname": "{victim}/shadow"}), ("mine", FILE, X)],
    "a device": [("dev/kmsg", DEVICE, {"devmajor": 1, "devminor": 11})],
    "a whiteout": [("gone/.wh.x", FILE, {})],
    "a whiteout of a path": [(".wh...", FILE, {})],
}


@pytest.mark.parametrize("case", LAYERS)
def test_row_28_layers(tmp_path: pathlib.Path, case: str) -> None:
    """CVE-2025-47290 and others: nothing of a layer lands outside of it, or is left as a device or as a marker."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "shadow").write_text("secret")
    filled = [
        (name, kind, {k: v.format(victim=victim) if isinstance(v, str) else v for k, v in fields.items()})
        for name, kind, fields in LAYERS[case]
    ]
    file = archive(tmp_path / "layer.tar", *filled)

    def verdict(how: object, directory: pathlib.Path) -> str:
        directory.mkdir()
        try:
            how(file, str(directory))  # type: ignore[operator]
        except OSError as error:
            return f"fails in the middle: {error}"
        state = {path.name: (path.read_text(), path.stat().st_nlink) for path in victim.iterdir()}
        inside = [path for path in directory.rglob("*") if path.is_char_device() and path.stat().st_rdev]
        markers = [path for path in directory.rglob(".wh.*")]
        return "" if (state, inside, markers) == ({"shadow": ("secret", 1)}, [], []) else f"{state} {inside} {markers}"

    assert verdict(unpack, tmp_path / "podlab") == ""
    assert verdict(naive.unpack, tmp_path / "naive") != "", "the naive runtime passes: this check finds nothing"


def test_row_28_whiteouts_count(tmp_path: pathlib.Path) -> None:
    """A whiteout hides what is below, as overlayfs does it."""
    file = archive(tmp_path / "l.tar", ("d", DIRECTORY, {}), ("d/.wh.x", FILE, {}), ("d/.wh..wh..opq", FILE, {}))
    (tmp_path / "l").mkdir()
    unpack(file, str(tmp_path / "l"))
    assert (tmp_path / "l/d/x").stat().st_rdev == 0 and (tmp_path / "l/d/x").is_char_device()
    assert os.getxattr(tmp_path / "l/d", "trusted.overlay.opaque") == b"y"


CONFIG = {
    "Cmd": ["true"],
    "Volumes": {"../../": {}},
    "Healthcheck": {"Test": ["CMD", "touch", "MARK"]},
    "OnBuild": ["RUN touch MARK"],
    "Shell": ["/bin/sh"],
    "Hostname": "other",
    "annotations": {"io.kubernetes.cri.sandbox-id": "x"},
}


def test_row_29_configuration_of_an_image(tmp_path: pathlib.Path) -> None:
    """CVE-2026-53488: labels, annotations, volumes and the like of an image steer nothing."""
    mark = tmp_path / "mark"
    labels = {"podlab.hook": f"touch {mark}", "io.kubernetes.container.name": "other", "io.cri-containerd.image": "x"}
    config = {**CONFIG, "Labels": labels}
    assert image.clean_config(config, "evil") == {"Cmd": ["true"]}
    assert not mark.exists()
    naive.run_labels(config)
    assert mark.exists(), "the naive runtime passes: this check finds nothing"
    with pytest.raises(PodlabError):
        image.clean_config({"Cmd": "rm -rf /"}, "evil")

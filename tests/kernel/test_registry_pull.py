"""Images from a real registry on loopback: pushed by skopeo, pulled by podlab_image, mounted as overlay."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from podlab.errors import PodlabError
from podlab.runtime import image, image_store, pull

pytestmark = pytest.mark.kernel

Entry = tuple[str, bytes, bytes, dict[str, Any]]
DIRECTORY, FILE, LINK = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE
CAPABILITY = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

BASE: list[Entry] = [
    ("bin", DIRECTORY, b"", {}),
    ("bin/su", FILE, b"setuid", {"mode": 0o4755}),
    ("bin/ping", FILE, b"ping", {"pax_headers": {"SCHILY.xattr.security.capability": CAPABILITY}}),
    ("home/user", FILE, b"user", {"uid": 1000, "gid": 1001, "mode": 0o600}),
    ("gone", FILE, b"gone", {}),
    ("dir/x", FILE, b"x", {}),
    ("dir/y", FILE, b"y", {}),
    ("hidden/old", FILE, b"old", {}),
    ("swap", FILE, b"a file", {}),
    ("again/old", FILE, b"old", {}),
    ("again2/old", FILE, b"old", {}),
    ("link", LINK, b"", {"linkname": "bin/su"}),
    ("evil", FILE, b"", {"pax_headers": {"SCHILY.xattr.trusted.overlay.redirect": "/etc"}}),
]
CHANGES: list[Entry] = [
    (".wh.gone", FILE, b"", {}),
    ("dir/.wh.x", FILE, b"", {}),
    ("hidden/new", FILE, b"new", {}),
    ("hidden/.wh..wh..opq", FILE, b"", {}),
    ("swap/inner", FILE, b"inner", {}),
    (".wh.again", FILE, b"", {}),
    ("again/new", FILE, b"new", {}),
    ("again2/new", FILE, b"new", {}),
    (".wh.again2", FILE, b"", {}),
]
MERGED = {
    "bin/su": "setuid",
    "bin/ping": "ping",
    "home/user": "user",
    "dir/y": "y",
    "hidden/new": "new",
    "swap/inner": "inner",
    "again/new": "new",
    "again2/new": "new",
    "link": "setuid",
    "evil": "",
}


def archive(entries: list[Entry]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, data, fields in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.mode = kind, len(data), 0o755 if kind == DIRECTORY else 0o644
            for key, value in fields.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(data))
    return raw.getvalue()


def oci_layout(directory: pathlib.Path, layers: list[bytes], config: dict[str, Any], **words: Any) -> None:
    """An OCI image layout whose first layer is compressed and whose others are plain."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    described = [
        put(gzip.compress(layer, mtime=0), "layer.v1.tar+gzip") if number == 0 else put(layer, "layer.v1.tar")
        for number, layer in enumerate(layers)
    ]
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    about = {"architecture": pull._ARCHITECTURE[os.uname().machine], "os": "linux", "config": config, **words}
    about["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    manifest = {
        "schemaVersion": 2,
        "config": put(json.dumps(about).encode(), "config.v1+json"),
        "layers": described,
    }
    index = put(json.dumps(manifest).encode(), "manifest.v1+json")
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a docker-registry that this module started."""
    if shutil.which("docker-registry") is None:
        pytest.skip("needs the package docker-registry")
    directory = tmp_path_factory.mktemp("registry")
    (directory / "config.yml").write_text(
        f"version: 0.1\nlog: {{accesslog: {{disabled: true}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
    )
    argv = ["docker-registry", "serve", str(directory / "config.yml")]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        # The port is the kernel's choice.
        found = (re.search(r"listening on (127\.0\.0\.1:\d+)", line) for line in process.stderr)
        address = next((match[1] for match in found if match), "")
        assert address, "docker-registry ended at once"
        reader = threading.Thread(target=process.stderr.read)
        reader.start()
        yield address
        process.terminate()
        reader.join()


@pytest.fixture
def push(registry: str, tmp_path: pathlib.Path) -> Callable[..., str]:
    """push(name, layers, config) -> the reference under which the image is in the registry now."""

    def pushed(name: str, layers: list[list[Entry]], config: dict[str, Any] | None = None, **words: Any) -> str:
        layout = tmp_path / f"oci-{len(os.listdir(tmp_path))}"
        oci_layout(layout, [archive(layer) for layer in layers], config or {}, **words)
        target = f"{registry}/{name}"
        argv = ["skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", f"oci:{layout}"]
        subprocess.run([*argv, f"docker://{target}"], check=True, capture_output=True)
        return target

    return pushed


def merged(layers: list[str], directory: pathlib.Path) -> dict[str, str]:
    """Path -> text of what an overlay of these layers (bottom first) shows; mounted in a mount namespace of its own."""
    point = directory / "merged"
    point.mkdir()
    options = "lowerdir=" + ":".join(reversed([*layers]))
    script = 'mount -t overlay overlay -o "$1" "$2" && tar -C "$2" -ch --exclude=dangling .'
    argv = ["unshare", "-m", "sh", "-c", script, "sh", options, str(point)]
    done = subprocess.run(argv, check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        found = {}
        for member in tar.getmembers():
            file = tar.extractfile(member) if member.isfile() or member.islnk() else None
            if file is not None:
                found[member.name[2:]] = file.read().decode()
    return found


def test_a_pulled_image_is_the_image(
    push: Callable[..., str],
    podlab_roots: pathlib.Path,
    run_module: Callable[..., dict[str, Any]],
    tmp_path: pathlib.Path,
) -> None:
    config = {"Cmd": ["sh"], "Env": ["A=b"], "Labels": {"podlab.uid": "0"}, "Volumes": {"../../": {}}}
    reference = push("team/web:1", [BASE, CHANGES], config)
    wanted = {"images": [{"reference": reference}]}

    checked = run_module("podlab_image", wanted, check=True, diff=True)
    assert checked["changed"] and not checked["images"][reference]["present"]
    assert image.find(reference) is None
    made = run_module("podlab_image", wanted, diff=True)
    assert made.get("failed") is None, made
    for key in ("changed", "commands", "results", "diff"):
        assert checked[key] == made[key]
    have = made["images"][reference]
    assert have == {**checked["images"][reference], "present": True}
    assert have["config"] == {"Cmd": ["sh"], "Env": ["A=b"]}
    again = run_module("podlab_image", wanted, diff=True)
    assert (again["changed"], again["diff"], again["commands"]) == (False, [], [])

    assert merged(have["layers"], tmp_path) == MERGED
    base = pathlib.Path(have["layers"][0])
    assert oct((base / "bin/su").stat().st_mode) == "0o104755"
    assert (base / "home/user").stat().st_uid == 1000
    assert os.getxattr(base / "bin/ping", "security.capability") == CAPABILITY.encode("latin-1")
    assert os.listxattr(base / "evil") == []
    assert oct(os.stat(image_store.images_dir()).st_mode) == "0o40700"


def test_layers_are_shared_and_removed_with_the_last_image(
    push: Callable[..., str], podlab_roots: pathlib.Path, run_module: Callable[..., dict[str, Any]]
) -> None:
    one, two = push("a:1", [BASE]), push("b:1", [BASE, CHANGES])
    made = run_module("podlab_image", {"images": [{"reference": one}, {"reference": two}]})["images"]
    assert made[one]["layers"][0] == made[two]["layers"][0]
    gone = run_module("podlab_image", {"images": [{"reference": two, "state": "absent"}]})
    assert gone["changed"] and gone["images"] == {}
    assert os.listdir(image_store.layers_dir()) == [os.path.basename(made[one]["layers"][0])]
    assert not run_module("podlab_image", {"images": [{"reference": two, "state": "absent"}]})["changed"]


def test_a_mounted_layer_is_not_removed(
    push: Callable[..., str],
    podlab_roots: pathlib.Path,
    run_module: Callable[..., dict[str, Any]],
    tmp_path: pathlib.Path,
) -> None:
    reference = push("c:1", [BASE, CHANGES])
    layers = run_module("podlab_image", {"images": [{"reference": reference}]})["images"][reference]["layers"]
    script = 'mount -t overlay overlay -o "$1" "$2" && echo ready && read line'
    options = f"lowerdir={layers[1]}:{layers[0]}"
    argv = ["unshare", "-m", "sh", "-c", script, "sh", options, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
        run_module("podlab_image", {"images": [{"reference": reference, "state": "absent"}]})
        assert len(os.listdir(image_store.layers_dir())) == 2
        holder.communicate("\n")
    with image_store.locked():
        image_store.remove(reference)
    assert os.listdir(image_store.layers_dir()) == []


def test_always_notices_a_moved_tag(
    push: Callable[..., str], podlab_roots: pathlib.Path, run_module: Callable[..., dict[str, Any]]
) -> None:
    reference = push("moved:1", [BASE])

    def run(policy: str) -> dict[str, Any]:
        return run_module("podlab_image", {"images": [{"reference": reference, "policy": policy}]})

    first = run("Always")["images"][reference]["id"]
    assert not run("Always")["changed"]
    push("moved:1", [BASE, CHANGES])
    assert not run("IfNotPresent")["changed"]
    assert not run("Never")["changed"]
    newer = run("Always")
    assert newer["changed"] and newer["images"][reference]["id"] != first
    assert not run("Always")["changed"]


def test_every_image_that_cannot_be_had_is_named_before_anything_is_made(
    registry: str, podlab_roots: pathlib.Path, run_module: Callable[..., dict[str, Any]]
) -> None:
    wanted = [
        {"reference": "busybox"},
        {"reference": f"{registry}/no/such:1"},
        {"reference": f"{registry}/neither:2"},
        {"reference": "registry.k8s.io/pause:3.10.2", "policy": "Never"},
    ]
    for check in (True, False):
        failed = run_module("podlab_image", {"images": wanted}, check=check)
        assert failed["failed"] and len(failed["problems"]) == 3
        assert f'ErrImagePull: failed to pull image "{registry}/no/such:1"' in failed["msg"]
        assert f'ErrImagePull: failed to pull image "{registry}/neither:2"' in failed["msg"]
        assert (
            'ErrImageNeverPull: Container image "registry.k8s.io/pause:3.10.2" is not present with pull policy of Never'
        ) in failed["msg"]
        assert "Without a registry there are: busybox:latest" in failed["msg"]
    assert image.find("busybox") is None
    wrong = run_module("podlab_image", {"images": [{"reference": "A"}, {"reference": "b c"}]})
    assert [problem["place"] for problem in wrong["problems"]] == ["images[0].reference", "images[1].reference"]


def test_an_image_for_another_machine_is_refused(push: Callable[..., str], podlab_roots: pathlib.Path) -> None:
    reference = push("other:1", [BASE], architecture="s390x")
    with pytest.raises(PodlabError, match="no match for platform in manifest: it is for linux/s390x"):
        pull.inspect(reference)


def test_a_hostile_layer_leaves_nothing(
    push: Callable[..., str], podlab_roots: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    hostile: list[Entry] = [("out", LINK, b"", {"linkname": str(victim)}), ("out/pwned", FILE, b"x", {})]
    reference = push("hostile:1", [BASE, hostile])
    with image_store.locked(), pytest.raises(PodlabError, match="goes through 'out'"):
        pull.pull(reference)
    assert os.listdir(victim) == []
    assert image.find(reference) is None
    assert len(os.listdir(image_store.layers_dir())) == 1
    assert os.listdir(f"{image_store.images_dir()}/tmp") == []


def spoil_blob(directory: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Other content, well compressed: only the digest tells."""
    (directory / manifest["layers"][0]["digest"].split(":")[1]).write_bytes(gzip.compress(archive(CHANGES)))


def spoil_config(directory: pathlib.Path, manifest: dict[str, Any]) -> None:
    file = directory / manifest["config"]["digest"].split(":")[1]
    file.write_bytes(file.read_bytes().replace(b"linux", b"linus"))


def spoil_diff_id(directory: pathlib.Path, manifest: dict[str, Any]) -> None:
    """A configuration that promises another content; its own digest is right."""
    old = directory / manifest["config"]["digest"].split(":")[1]
    words = json.loads(old.read_bytes())
    words["rootfs"]["diff_ids"][0] = "sha256:" + "0" * 64
    raw = json.dumps(words).encode()
    digest = hashlib.sha256(raw).hexdigest()
    (directory / digest).write_bytes(raw)
    manifest["config"]["digest"] = f"sha256:{digest}"


def spoil_name(directory: pathlib.Path, manifest: dict[str, Any]) -> None:
    manifest["layers"][0]["digest"] = "sha256:../../../etc/passwd"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_blob, "the blob of layer .* does not match"),
        (spoil_config, "the configuration does not match its digest"),
        (spoil_diff_id, "the content of layer .* does not match"),
        (spoil_name, "is not a sha256 digest"),
    ],
)
def test_what_does_not_match_its_digest_does_not_count(
    push: Callable[..., str],
    podlab_roots: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pathlib.Path, dict[str, Any]], None],
    message: str,
) -> None:
    reference = push("spoilt:1", [BASE])
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    pull._skopeo("copy", reference, [], [f"dir:{fetched}"])
    manifest = json.loads((fetched / "manifest.json").read_text())
    spoil(fetched, manifest)
    (fetched / "manifest.json").write_text(json.dumps(manifest))

    def hand_over(verb: str, name: str, options: list[str], rest: list[str]) -> None:
        shutil.copytree(fetched, rest[0][len("dir:") :], dirs_exist_ok=True)

    monkeypatch.setattr(pull, "_skopeo", hand_over)
    with image_store.locked(), pytest.raises(PodlabError, match=message):
        pull.pull(reference)
    assert image.find(reference) is None
    assert os.listdir(image_store.layers_dir()) == []


def test_a_kill_at_any_point_leaves_nothing_that_counts(push: Callable[..., str], podlab_roots: pathlib.Path) -> None:
    """The child dies at each rename in turn; afterwards the image is absent or whole, and the next pull repairs."""
    reference = push("killed:1", [BASE, CHANGES])
    for in_place, renames in enumerate((0, 1, 1)):  # what earlier rounds put in place stays
        pid = os.fork()
        if pid == 0:
            left = [renames]

            def rename(source: str, target: str, left: list[int] = left, real: Any = os.rename) -> None:
                if left[0] == 0:
                    os.kill(os.getpid(), 9)
                left[0] -= 1
                real(source, target)

            os.rename = rename  # type: ignore[assignment]
            with image_store.locked():
                pull.pull(reference)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
        assert image.find(reference) is None
        assert len(os.listdir(image_store.layers_dir())) == in_place
    assert os.listdir(f"{image_store.images_dir()}/tmp")
    with image_store.locked():
        assert os.listdir(f"{image_store.images_dir()}/tmp") == []
        pull.pull(reference)
    assert image.find(reference) is not None

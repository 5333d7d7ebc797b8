"""Pull an image from a registry: skopeo fetches, podlab checks every digest and unpacks layer by layer."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, cast

from ..errors import PodlabError
from . import image_store, layers
from .image import clean_config
from .image_recipes import offers

_TIMEOUT = {"inspect": 60, "copy": 900}
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?/")
_DIGEST = re.compile(r"sha256:([a-f0-9]{64})")
# Go's name of this machine's architecture, as image configurations have it.
_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}
_MAX_CONFIG = 4 << 20


class Remote(NamedTuple):
    """What a registry has under a name. id: digest of the configuration. diff_ids: hex, bottom first."""

    id: str
    config: dict[str, Any]
    diff_ids: tuple[str, ...]


def inspect(reference: str) -> Remote:
    """Ask the registry, download nothing but the configuration. Raises PodlabError (ErrImagePull)."""
    done = _skopeo("inspect", reference, ["--config", "--raw"], [])
    return _remote(reference, done.stdout)


def copy_command(reference: str, directory: str) -> list[str]:
    """The argv that downloads an image into a directory."""
    return _command("copy", reference, [], [f"dir:{directory}"])


def pull(reference: str) -> dict[str, Any]:
    """Download, check, unpack, put in the store. Needs the store's lock. Returns the record.

    Raises PodlabError (ErrImagePull) when the registry fails, a digest differs or a layer is refused.
    """
    with image_store.scratch() as work:
        _skopeo("copy", reference, [], [f"dir:{work}"])
        try:
            with open(f"{work}/manifest.json", encoding="utf-8") as file:
                manifest = json.load(file)
            blobs = [_hex(layer["digest"], reference) for layer in manifest["layers"]]
            config = _hex(manifest["config"]["digest"], reference)
        except (KeyError, TypeError, ValueError) as error:
            raise _failed(reference, "its manifest is neither an OCI nor a Docker schema 2 manifest") from error
        with open(f"{work}/{config}", "rb") as blob:
            raw = blob.read(_MAX_CONFIG)
        if hashlib.sha256(raw).hexdigest() != config:
            raise _failed(reference, f"the configuration does not match its digest sha256:{config}")
        remote = _remote(reference, raw)
        if len(blobs) != len(remote.diff_ids):
            raise _failed(reference, f"it has {len(blobs)} layers and {len(remote.diff_ids)} diff_ids")
        for blob_digest, diff_id in zip(blobs, remote.diff_ids):
            if not os.path.isdir(image_store.layer_dir(diff_id)):
                _unpack(reference, f"{work}/{blob_digest}", blob_digest, diff_id)
    record = {
        "reference": reference,
        "id": remote.id,
        "layers": list(remote.diff_ids),
        "config": remote.config,
        "source": {"registry": reference},
    }
    image_store.write(reference, record)
    return record


def _unpack(reference: str, blob: str, digest: str, diff_id: str) -> None:
    with image_store.scratch() as directory:
        tree = f"{directory}/tree"
        os.mkdir(tree, 0o755)
        try:
            with open(blob, "rb") as file:
                outer = _Hashing(file)
                with _decompressed(outer) as plain:
                    inner = _Hashing(plain)
                    layers.unpack(cast("IO[bytes]", inner), tree)
                    inner.drain()
                outer.drain()
        except (OSError, EOFError, layers.Refused) as error:
            raise _failed(reference, f"layer sha256:{digest}: {error}") from error
        for what, have, want in (("blob", outer, digest), ("content", inner, diff_id)):
            if have.hexdigest() != want:
                raise _failed(reference, f"the {what} of layer sha256:{digest} does not match sha256:{want}")
        image_store.adopt(tree, image_store.layer_dir(diff_id))


class _Hashing:
    """A readable that computes the sha256 of what passes."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._source.read(size)
        self._digest.update(data)
        return data

    def drain(self) -> None:
        """Read what an archive has after its end."""
        while self.read(1 << 20):
            pass

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


@contextlib.contextmanager
def _decompressed(source: _Hashing) -> Iterator[Any]:
    """The plain stream of a blob: told by its first bytes, whatever the manifest calls it."""
    head = source.read(4)
    joined = _Joined(head, source)
    if head[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=cast("IO[bytes]", joined)) as plain:
            yield plain
    elif head == b"\x28\xb5\x2f\xfd":
        with _zstd(joined) as plain:
            yield plain
    else:
        yield joined


class _Joined:
    """Bytes read already, then the rest."""

    def __init__(self, head: bytes, rest: _Hashing) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._rest.read(size)
        data, self._head = (self._head, b"") if size < 0 else (self._head[:size], self._head[size:])
        return data if 0 <= size <= len(data) else data + self._rest.read(-1 if size < 0 else size - len(data))


@contextlib.contextmanager
def _zstd(source: _Joined) -> Iterator[Any]:
    program = shutil.which("zstd")
    if program is None:
        raise PodlabError("A layer is compressed with zstd. Install the package zstd.")
    import threading  # only this rare path needs it

    with subprocess.Popen([program, "-dcq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        pipe = cast("IO[bytes]", process.stdin)

        def feed() -> None:
            with contextlib.suppress(BrokenPipeError), pipe:
                for block in iter(lambda: source.read(1 << 16), b""):
                    pipe.write(block)

        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        try:
            yield process.stdout
        finally:
            cast("IO[bytes]", process.stdout).close()
            feeder.join()


def _remote(reference: str, raw: bytes) -> Remote:
    try:
        words = json.loads(raw)
        diff_ids = tuple(_hex(diff_id, reference) for diff_id in words["rootfs"]["diff_ids"])
        architecture, system = words["architecture"], words["os"]
    except (KeyError, TypeError, ValueError) as error:
        raise _failed(reference, "its configuration is not an image configuration") from error
    machine = _ARCHITECTURE.get(platform.machine(), platform.machine())
    if (system, architecture) != ("linux", machine):
        raise _failed(reference, f"no match for platform in manifest: it is for {system}/{architecture}")
    config = clean_config(words.get("config"), reference)
    return Remote(f"sha256:{hashlib.sha256(raw).hexdigest()}", config, diff_ids)


def _hex(digest: Any, reference: str) -> str:
    found = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if found is None:
        raise _failed(reference, f"{digest!r:.100} is not a sha256 digest")
    return found.group(1)


def _command(verb: str, reference: str, options: list[str], rest: list[str]) -> list[str]:
    policy = os.path.exists("/etc/containers/policy.json")
    words = ["skopeo", *([] if policy else ["--insecure-policy"]), "--override-os=linux", verb, *options]
    if _LOOPBACK.match(reference):
        # As docker and containerd do: what is on this machine's loopback needs no certificate.
        words.append("--src-tls-verify=false" if verb == "copy" else "--tls-verify=false")
    return [*words, f"docker://{reference}", *rest]


def _skopeo(verb: str, reference: str, options: list[str], rest: list[str]) -> subprocess.CompletedProcess[bytes]:
    argv = _command(verb, reference, options, rest)
    if shutil.which(argv[0]) is None:
        raise _failed(reference, "this machine has no skopeo (package skopeo)")
    environment = {**os.environ, "LANGUAGE": "C", "LC_ALL": "C"}
    limit = _TIMEOUT[verb]
    try:
        done = subprocess.run(
            argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(reference, f"the registry did not answer within {limit} seconds") from error
    if done.returncode:
        raise _failed(reference, _reason(done.stderr.decode("utf-8", "replace")), cmd=argv, rc=done.returncode)
    return done


def _reason(stderr: str) -> str:
    """The message of skopeo's last log line (time=... level=fatal msg="...")."""
    lines = stderr.strip().splitlines() or ["skopeo failed"]
    found = re.search(r'msg="(.*)"$', lines[-1])
    return (found.group(1) if found else lines[-1]).replace('\\"', '"')


def _failed(reference: str, reason: str, **details: Any) -> PodlabError:
    message = f'ErrImagePull: failed to pull image "{reference}": {reason}'
    remedy = f"Check the name and the way to its registry. Without a registry there are: {offers()}."
    return PodlabError(f"{message.rstrip('.')}. {remedy}", **details)

"""Debian packages as data: downloaded and unpacked, never installed, since installing starts services."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
from collections.abc import Sequence

from ..errors import PodlabError

# apt offers other versions only after one of these has changed.
APT_STATE = (
    "/var/lib/apt/lists",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/etc/apt/preferences",
    "/etc/apt/preferences.d",
)
_TIMEOUT = 300


def candidate_versions(names: Sequence[str]) -> dict[str, str]:
    """Package -> the version that a download would get now; empty for an unknown package."""
    output = _run(["apt-cache", "policy", *names]).stdout
    versions = dict.fromkeys(names, "")
    name = ""
    for line in output.splitlines():
        if line and not line[0].isspace():
            name = line.rstrip(":")
        elif line.strip().startswith("Candidate:") and name in versions:
            versions[name] = line.split()[-1].replace("(none)", "")
    return versions


def unpack(names: Sequence[str], directory: str) -> dict[str, str]:
    """Download packages and unpack them into directory (which then looks like a root). Returns package -> version.

    apt checks the signatures. Raises PodlabError with apt's own words.
    """
    archives = f"{directory}.debs"
    os.mkdir(archives)
    done = _run(["apt-get", "-q", "download", *names], cwd=archives)
    found = sorted(glob.glob(f"{archives}/*.deb"))
    if done.returncode or len(found) < len(names):
        reason = next((line for line in done.stderr.splitlines() if line.startswith("E:")), "apt-get download failed")
        raise PodlabError(
            f"Cannot get the packages {', '.join(names)}: {reason.lstrip('E: ')}. "
            "Run apt-get update and check /etc/apt/sources.list and the way to the mirror.",
            cmd=done.args,
            rc=done.returncode,
            stderr=done.stderr,
        )
    os.makedirs(directory, exist_ok=True)
    versions = {}
    for archive in found:
        # A name with an epoch has %3a in it.
        name, version = os.path.basename(archive).split("_")[:2]
        versions[name] = version.replace("%3a", ":")
        _run(["dpkg-deb", "-x", archive, directory], check=True)
        with open(f"{archives}/depends", "a", encoding="utf-8") as file:
            file.write(_run(["dpkg-deb", "-f", archive, "Depends"], check=True).stdout.replace("\n", "") + ",\n")
    return versions


def dependencies(directory: str) -> list[str]:
    """The names in the Depends of what unpack() put into directory; of alternatives the first."""
    with open(f"{directory}.debs/depends", encoding="utf-8") as file:
        text = file.read()
    names = [re.split(r"[\s(|:]", part.strip(), maxsplit=1)[0] for part in text.split(",")]
    return sorted({name for name in names if name})


def _run(argv: list[str], cwd: str | None = None, check: bool = False) -> subprocess.CompletedProcess[str]:
    if shutil.which(argv[0]) is None:
        raise PodlabError(
            f"Cannot run {argv[0]}: this machine does not have it. podlab's own images need Debian's apt."
        )
    environment = {**os.environ, "LANGUAGE": "C", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PodlabError(f"{' '.join(argv)} did not end within {_TIMEOUT} seconds.") from error
    if check and done.returncode:
        raise PodlabError(f"{' '.join(argv)} failed: {done.stderr.strip()}", cmd=argv, rc=done.returncode)
    return done

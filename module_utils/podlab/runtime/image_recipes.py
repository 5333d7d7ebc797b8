"""The images that podlab makes itself, without a registry, from Debian's packages: one row each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .image import split
from .image_python import PYTHON, Program
from .pause_source import VERSION as PAUSE_VERSION

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ACCOUNTS = {
    "root": "root:x:0:0:root:/root:/bin/sh",
    "daemon": "daemon:x:1:1:daemon:/usr/sbin:/bin/false",
    "bin": "bin:x:2:2:bin:/bin:/bin/false",
    "www-data": "www-data:x:33:33:www-data:/var/www:/bin/false",
    "nobody": "nobody:x:65534:65534:nobody:/home:/bin/false",
}
_GROUPS = {
    "root": 0,
    "daemon": 1,
    "bin": 2,
    "tty": 5,
    "mail": 8,
    "dip": 30,
    "www-data": 33,
    "users": 100,
    "nogroup": 65534,
}


class Recipe(NamedTuple):
    """How one image is made.

    repository, tags: the names it has. Any other tag is another image, and comes from its registry.
    config: Image.config. base: repository of the image whose layers come below; empty for none.
    packages: where its files come from. from_machine: the binaries are taken from this machine when it has them;
    else the packages are downloaded as data, never installed: that would start services.
    binaries: paths, with what their ELF headers need. copies: files and trees out of the packages.
    files: path -> text. links: path -> target. directories: path -> mode. applets: every busybox applet as a link.
    pause: the pause binary of this machine as /pause. program: a program of this package, run by Python.
    """

    repository: str
    tags: tuple[str, ...]
    config: Mapping[str, Any]
    base: str = ""
    packages: tuple[str, ...] = ()
    from_machine: bool = False
    binaries: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    files: Mapping[str, str] = {}
    links: Mapping[str, str] = {}
    directories: Mapping[str, int] = {}
    applets: bool = False
    pause: bool = False
    program: Program | None = None


_DIST_PACKAGES = "/usr/lib/python3/dist-packages"
_DNS = Program(
    module="podlab.runtime.dns_server",
    sources=(
        "__init__.py",
        "kube/__init__.py",
        "kube/dns_answers.py",
        "runtime/__init__.py",
        "runtime/dns_forward.py",
        "runtime/dns_message.py",
        "runtime/dns_server.py",
        "runtime/dns_tcp.py",
    ),
    libraries=(_DIST_PACKAGES,),
    evidence=(f"{_DIST_PACKAGES}/dnslib/__init__.py",),
)
_BUSYBOX = "docker.io/library/busybox"

RECIPES = (
    Recipe(
        repository=_BUSYBOX,
        tags=("latest", "stable", "1", "glibc", "stable-glibc"),
        config={"Env": [_PATH], "Cmd": ["sh"]},
        packages=("busybox-static",),
        from_machine=True,
        binaries=("/bin/busybox",),
        applets=True,
        files={
            "/etc/passwd": "".join(f"{line}\n" for line in _ACCOUNTS.values()),
            "/etc/group": "".join(f"{name}:x:{number}:\n" for name, number in _GROUPS.items()),
            "/etc/shadow": "".join(f"{name}:*:20000:0:99999:7:::\n" for name in _ACCOUNTS),
            # getaddrinfo(3) of a static glibc reads it too; without the file old versions ask no DNS server.
            "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
            # Mount points: missing ones would be made in every container's upper layer.
            "/etc/hosts": "",
            "/etc/hostname": "",
            "/etc/resolv.conf": "",
        },
        links={"/usr/bin/env": "../../bin/busybox", "/var/run": "../run"},
        directories={
            "/root": 0o700,
            "/home": 0o755,
            "/tmp": 0o1777,
            "/usr/sbin": 0o755,
            "/var/tmp": 0o1777,
            "/var/www": 0o755,
            "/var/spool/mail": 0o755,
            "/var/lib/misc": 0o755,
            "/run": 0o755,
        },
    ),
    Recipe(
        repository="registry.k8s.io/pause",
        tags=("latest", "3.10", "3.10.1", PAUSE_VERSION),
        config={"Env": [_PATH], "Entrypoint": ["/pause"], "User": "65535:65535", "WorkingDir": "/"},
        pause=True,
    ),
    Recipe(
        repository="docker.io/library/nginx",
        tags=("latest", "stable", "mainline"),
        config={
            "Env": [_PATH],
            "Cmd": ["nginx", "-g", "daemon off;"],
            "ExposedPorts": ["80/tcp"],
            "StopSignal": "SIGQUIT",
        },
        base=_BUSYBOX,
        packages=("nginx", "nginx-common"),
        binaries=("/usr/sbin/nginx",),
        copies=("/etc/nginx", "/usr/share/nginx/html"),
        files={
            "/etc/nginx/conf.d/default.conf": (
                "server {\n    listen 80 default_server;\n    server_name localhost;\n\n    location / {\n"
                "        root /usr/share/nginx/html;\n        index index.html index.htm;\n    }\n}\n"
            ),
        },
        links={"/var/log/nginx/access.log": "/dev/stdout", "/var/log/nginx/error.log": "/dev/stderr"},
        directories={"/var/lib/nginx": 0o755, "/var/log/nginx": 0o755},
    ),
    Recipe(
        repository="docker.io/podlab/dns",
        tags=("latest",),
        config={
            "Env": [_PATH],
            "Entrypoint": [PYTHON, "-I", "-S", "-B", _DNS.launcher],
            "ExposedPorts": ["53/tcp", "53/udp"],
            "User": "65532:65532",
        },
        base=_BUSYBOX,
        packages=("python3-dnslib",),
        from_machine=True,
        binaries=(PYTHON,),
        program=_DNS,
    ),
)


def by_repository(repository: str) -> Recipe | None:
    """The recipe with this repository, whatever the tag."""
    return next((recipe for recipe in RECIPES if recipe.repository == repository), None)


def built_in(reference: str) -> Recipe | None:
    """The recipe that makes exactly this image; None for one that must come from a registry."""
    repository, tag, digest = split(reference)
    recipe = by_repository(repository)
    return recipe if recipe is not None and not digest and tag in recipe.tags else None


def offers() -> str:
    """The names of the built-in images, for a message."""
    return ", ".join(
        re.sub("^docker.io/(library/)?", "", f"{recipe.repository}:{recipe.tags[0]}") for recipe in RECIPES
    )

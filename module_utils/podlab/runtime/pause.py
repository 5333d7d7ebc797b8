"""The pause binary of this machine: built from source once, or Debian's catatonit where there is no compiler."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

from ..errors import PodlabError
from . import image_store
from .paths import images_dir
from .pause_source import SOURCE

COMPILERS = ("cc", "gcc", "clang", "tcc")
# No libc, no start files, nothing but the text in one page that all pods share.
_FLAGS = ("-static", "-nostdlib", "-ffreestanding", "-Os", "-fno-stack-protector", "-fno-pie")
_FLAGS_BY_COMPILER = {
    "tcc": ("-static", "-nostdlib"),
    "": (*_FLAGS, "-no-pie", "-fno-asynchronous-unwind-tables", "-Wl,-z,noseparate-code", "-Wl,--build-id=none", "-s"),
}


def pause_file() -> str:
    """Where the binary of this source is, or will be."""
    return f"{images_dir()}/pause/{hashlib.sha256(SOURCE.encode()).hexdigest()}/pause"


def compiler() -> str:
    """The first C compiler of this machine; empty when there is none."""
    return next((path for path in map(shutil.which, COMPILERS) if path), "")


def compile_command(program: str, source: str, target: str) -> list[str]:
    """The argv that builds the pause binary with a compiler."""
    flags = _FLAGS_BY_COMPILER.get(os.path.basename(program), _FLAGS_BY_COMPILER[""])
    return [program, *flags, "-o", target, source]


def pause_binary(build: bool = True) -> str:
    """Path of a static pause binary.

    build: make it when it is not there (once per machine and source; 0.1 s). Without, the path is where it will be.
    Raises PodlabError when there is neither a compiler nor catatonit.
    """
    return pause_command(build)[0]


def pause_command(build: bool = True) -> tuple[str, ...]:
    """The argv of pause: the path of pause_binary() and, for catatonit, the option that makes it one."""
    target = pause_file()
    if os.path.exists(target):
        return (target,)
    if compiler():
        if build:
            with image_store.locked():
                _build(target)
        return (target,)
    catatonit = shutil.which("catatonit")
    if catatonit:
        return (_copy_alone(catatonit, build), "-P")
    raise PodlabError(
        "Cannot make the pause process: this machine has no C compiler (cc, gcc, clang, tcc) and no catatonit. "
        "Install one of the packages gcc, tcc, catatonit."
    )


def _copy_alone(program: str, build: bool) -> str:
    """A copy in a directory of its own: that directory becomes the root of every pause process."""
    with open(program, "rb") as file:
        data = file.read()
    target = f"{images_dir()}/pause/{hashlib.sha256(data).hexdigest()}/pause"
    if build and not os.path.exists(target):
        with image_store.locked(), image_store.scratch() as directory:
            with open(f"{directory}/pause", "wb") as copy:
                copy.write(data)
            os.chmod(f"{directory}/pause", 0o755)
            image_store.adopt(directory, os.path.dirname(target))
    return target


def _build(target: str) -> None:
    if os.path.exists(target):
        return
    with image_store.scratch() as directory:
        source = f"{directory}/pause.c"
        with open(source, "w", encoding="ascii") as file:
            file.write(SOURCE)
        argv = compile_command(compiler(), source, f"{directory}/pause")
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise PodlabError(
                f"Cannot build the pause binary: {argv[0]} says: {done.stderr.strip()}. "
                "Repair the compiler (package gcc), or remove it and install catatonit.",
                cmd=argv,
                rc=done.returncode,
                stderr=done.stderr,
            )
        os.chmod(f"{directory}/pause", 0o755)
        image_store.adopt(directory, os.path.dirname(target))

"""iptables-save and iptables-restore in network namespaces, on one backend.

Two backends keep rules of their own in the same namespace, x_tables (legacy) and nf_tables; rules in both would both
apply. So: one backend per machine, and a namespace where the other one is in use for the same purpose is refused.
Sources: iptables-restore(8), iptables-save(8), xtables-nft(8), kind's select-iptables in its entrypoint.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

from ..errors import PodlabError
from . import netns, syscalls

# Seconds to wait for another iptables' lock (legacy only; nft has none), and for the command itself.
LOCK_SECONDS = 5
TIMEOUT_SECONDS = 60

_PREFIX = {"ipv4": "iptables", "ipv6": "ip6tables"}
_OTHER = {"nft": "legacy", "legacy": "nft"}
_SYSTEM_PATH = "/usr/sbin:/sbin:/usr/local/sbin"
_LEGACY_TABLES = {"ipv4": "/proc/thread-self/net/ip_tables_names", "ipv6": "/proc/thread-self/net/ip6_tables_names"}


class Backend(NamedTuple):
    """The commands of one backend and family. family: "ipv4" or "ipv6"; default: plain `iptables` is this one."""

    name: str
    family: str
    default: bool

    def command(self, what: str) -> str:
        """Name of the command that a person types: what is "save" or "restore"."""
        prefix = _PREFIX[self.family]
        return f"{prefix}-{what}" if self.default else f"{prefix}-{self.name}-{what}"

    def other(self) -> Backend:
        """The backend that is not this one."""
        return Backend(_OTHER[self.name], self.family, False)

    def restore_argv(self) -> list[str]:
        """`iptables-restore` as it is called: add to what is there, wait for the lock."""
        return [self.command("restore"), "-w", str(LOCK_SECONDS), "--noflush", "--counters"]


def _find(command: str) -> str:
    return shutil.which(command) or shutil.which(command, path=_SYSTEM_PATH) or ""


def detect(family: str = "ipv4", backend: str = "") -> Backend:
    """The backend to use: the one asked for ("nft" or "legacy"), else what the machine's `iptables` is.

    Raises PodlabError when iptables is not installed.
    """
    command = f"{_PREFIX[family]}-{backend + '-' if backend else ''}restore"
    found = _find(command)
    if not found:
        raise PodlabError(f"Cannot program Services: no {command} on this machine. Install the package iptables.")
    default = _default_backend(_PREFIX[family])
    return Backend(backend or default, family, not backend or backend == default)


def _default_backend(command: str) -> str:
    """By the multi-call binary behind the link, as alternatives set it; by its version text where there is none."""
    name = os.path.basename(os.path.realpath(_find(command)))
    for backend in ("nft", "legacy"):
        if backend in name:
            return backend
    version = subprocess.run([_find(command), "-V"], capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    return "nft" if "nf_tables" in version.stdout else "legacy"


class _Run(NamedTuple):
    """A started command with the files that stand in for pipes: none can fill up while another is waited for."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]
    errors: IO[bytes]


def _start(where: str, argv: Sequence[str], text: str = "") -> _Run:
    """Start a command in a network namespace: a child of a thread that has entered it is in there from the first."""
    with contextlib.ExitStack() as opened:
        output, errors, source = (
            opened.enter_context(os.fdopen(os.memfd_create(name), "w+b")) for name in ("stdout", "stderr", "stdin")
        )
        source.write(text.encode())
        source.seek(0)
        with netns.entered(where):
            process = subprocess.Popen(
                [_find(argv[0]) or argv[0], *argv[1:]],
                stdin=source,
                stdout=output,
                stderr=errors,
                env={**os.environ, "LC_ALL": "C"},
            )
        source.close()
        opened.pop_all()
    return _Run(process, output, errors)


def _finish(where: str, argv: Sequence[str], run: _Run) -> str:
    code = _wait(run.process)
    with run.output, run.errors:
        run.output.seek(0)
        run.errors.seek(0)
        output, errors = run.output.read().decode(), run.errors.read().decode(errors="replace").strip()
    if code:
        raise PodlabError(
            f"{argv[0]} in network namespace {where} failed with status {code}: {errors}",
            cmd=list(argv),
            rc=code,
            stderr=errors,
        )
    return output


def _wait(process: subprocess.Popen[bytes]) -> int:
    """The command's status; it is killed when its time is up. Popen.wait with a timeout sleeps up to 50 ms too long."""
    watched = select.poll()
    descriptor = syscalls.pidfd_open(process.pid)
    try:
        watched.register(descriptor, select.POLLIN)
        if not watched.poll(TIMEOUT_SECONDS * 1000):
            process.kill()
    finally:
        os.close(descriptor)
    return process.wait()


def _all(argv: Sequence[str], texts: Mapping[str, str]) -> dict[str, str]:
    """Run a command once per namespace, side by side; texts: namespace -> standard input. Returns their outputs."""
    runs: dict[str, _Run] = {}
    problems: list[PodlabError] = []
    outputs: dict[str, str] = {}
    try:
        for where, text in texts.items():
            runs[where] = _start(where, argv, text)
    except OSError as error:
        problems.append(PodlabError(f"Cannot run {argv[0]} in network namespace {where}: {error}"))
    for where, run in runs.items():
        try:
            outputs[where] = _finish(where, argv, run)
        except PodlabError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise PodlabError("\n".join(problem.message for problem in problems), **problems[0].details)
    return outputs


def save(backend: Backend, namespaces: Sequence[str]) -> dict[str, str]:
    """namespace -> output of iptables-save: every table in use, without counters."""
    return _all([backend.command("save")], dict.fromkeys(namespaces, ""))


def restore(backend: Backend, texts: Mapping[str, str]) -> None:
    """Load the texts (namespace -> restore text): each table of a text wholly or not at all.

    Raises PodlabError with the command's own message; the other namespaces are served all the same.
    """
    _all(backend.restore_argv(), texts)


def other_in_use(backend: Backend, namespaces: Sequence[str]) -> dict[str, str]:
    """namespace -> what the other backend holds there; namespaces where it holds nothing are left out."""
    other = backend.other()
    if other.name == "legacy":
        namespaces = [name for name in namespaces if _legacy_tables(name, backend.family)]
    if not namespaces or not _find(other.command("save")):
        return {}
    return {name: text for name, text in save(other, namespaces).items() if text}


def _legacy_tables(where: str, family: str) -> str:
    """Names of the legacy tables in use. Asking iptables-legacy itself would load its modules."""
    with netns.entered(where):
        try:
            with open(_LEGACY_TABLES[family], encoding="ascii") as file:
                return file.read()
        except OSError:
            return ""

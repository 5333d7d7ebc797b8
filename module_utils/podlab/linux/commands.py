"""Commands in network namespaces: the same one in many, side by side, each with an input of its own.

A child of a thread that has entered a namespace is in there from the first; nothing has to be typed before the command.
Sources: setns(2), memfd_create(2), pidfd_open(2).
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO, NamedTuple

from ..errors import PodlabError
from . import netns, syscalls

TIMEOUT_SECONDS = 60

_SYSTEM_PATH = "/usr/sbin:/sbin:/usr/local/sbin"


def find(command: str) -> str:
    """Path of a program, also where only root looks for it; empty when there is none."""
    return shutil.which(command) or shutil.which(command, path=_SYSTEM_PATH) or ""


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
                [find(argv[0]) or argv[0], *argv[1:]],
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
            f"{argv[0]} in {netns.title(where)} failed with status {code}: {errors}",
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


def _nothing() -> None:
    """What there is to do meanwhile, mostly."""


def run_each(
    argv: Sequence[str], texts: Mapping[str, str], meanwhile: Callable[[], object] = _nothing
) -> dict[str, str]:
    """Run a command once per namespace, side by side; texts: namespace -> standard input. Returns their outputs.

    meanwhile: is called while they run.
    Raises PodlabError with the command's own message; the other namespaces are served all the same.
    """
    runs: dict[str, _Run] = {}
    problems: list[PodlabError] = []
    outputs: dict[str, str] = {}
    try:
        for where, text in texts.items():
            runs[where] = _start(where, argv, text)
    except OSError as error:
        problems.append(PodlabError(f"Cannot run {argv[0]} in {netns.title(where)}: {error}"))
    try:
        meanwhile()
    finally:
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

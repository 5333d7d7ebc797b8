"""Run a playbook of the repository, with our output, and learn how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

from . import lab

# ansible-playbook may wait for ever after Ctrl-C: for a lock that a worker held when it was ended (ansible-core 2.19,
# FinalQueue). What is half-made then is what `up` repairs and `down` removes.
PATIENCE_SECONDS = 5.0


class Outcome(NamedTuple):
    """How a playbook ended. changed: how many tasks changed something. said: lines that tasks want shown."""

    code: int
    seconds: float
    changed: int
    said: tuple[str, ...]


def ansible_playbook() -> str:
    """The command beside this interpreter: the venv's, whatever PATH says."""
    return str(pathlib.Path(sys.executable).with_name("ansible-playbook"))


def run(
    playbook: str,
    *,
    environment: Mapping[str, str] | None = None,
    variables: Mapping[str, Any] | None = None,
    check: bool = False,
    diff: bool = False,
    verbose: int = 0,
    callback: str = "podlab",
    output: IO[str] | None = None,
) -> Outcome:
    """Run a playbook of the repository with our output.

    environment: what the inventory reads (PODLAB_CONFIG, KIND_CLUSTER_NAME, ...). variables: extra vars.
    output: where its output goes, when not to ours.
    """
    argv = [ansible_playbook(), str(lab.ROOT / "playbooks" / playbook)]
    argv += ["-e", json.dumps(variables)] if variables else []
    argv += ["--check"] if check else []
    argv += ["--diff"] if diff else []
    argv += ["-" + "v" * verbose] if verbose else []
    started = time.monotonic()
    with tempfile.NamedTemporaryFile("r", prefix="podlab-", suffix=".json") as file:
        own = {
            "ANSIBLE_CONFIG": str(lab.ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": callback,
            "PODLAB_RESULT_FILE": file.name,
        }
        sys.stdout.flush()
        code = wait(argv, {**os.environ, **own, **(environment or {})}, output, PATIENCE_SECONDS)
        text = file.read()
    result = json.loads(text) if text else {}
    return Outcome(code, time.monotonic() - started, result.get("changed", 0), tuple(result.get("said", ())))


def wait(
    argv: Sequence[str],
    environment: Mapping[str, str],
    output: IO[str] | None = None,
    patience: float | None = None,
) -> int:
    """Run a command to its end and return its exit code. output: where it writes, when not where we do.

    Ctrl-C reaches it as it reaches us: it ends in its own way, and we wait for that. patience: for how many seconds,
    until it is killed; without it, as long as it takes.
    """
    with (
        _interrupts() as pressed,
        subprocess.Popen(argv, env=dict(environment), cwd=lab.ROOT, stdout=output, stderr=output) as process,
    ):
        _await_end(process, pressed, patience)
        code = process.wait()
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _interrupts() -> Iterator[int]:
    """A descriptor to read from once Ctrl-C was pressed, which does nothing else meanwhile.

    A KeyboardInterrupt between the end of a child and the note of its exit code would lose that.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):  # ignored it stays, for the child, too
        signal.signal(signal.SIGINT, lambda number, frame: None)
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(wakeup)
        if callable(handler):
            signal.signal(signal.SIGINT, handler)
        os.close(read)
        os.close(write)


def _await_end(process: subprocess.Popen[Any], pressed: int, patience: float | None) -> None:
    ended = os.pidfd_open(process.pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(pressed, select.POLLIN)
    left: float | None = None
    try:
        while True:
            ready = [fd for fd, _ in poll.poll(left)]
            if ended in ready:
                return
            if not ready:
                process.kill()
            elif signal.SIGINT in os.read(pressed, 64) and patience is not None:
                left = patience * 1000
    finally:
        os.close(ended)

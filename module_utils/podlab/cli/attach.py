"""`attach`: the standard streams of a container that runs."""

from __future__ import annotations

import sys

from ..errors import PodlabError
from . import lab, pick


def attach(
    word: str, *, name: str = "", namespace: str = "", container: str = "", stdin: bool = False, tty: bool = False
) -> None:
    """Attach to a pod's container until it ends.

    word: the pod, as pick.pod takes it. name: the lab. stdin: pass our standard input on. tty: as its terminal.
    Raises PodlabError when it does not run, or has no input or terminal.
    """
    state = lab.read(name)
    picked = pick.pod(state, word, namespace)
    inside = pick.container(picked, container)
    pick.running(picked, inside, "attach to")
    spec = pick.container_spec(picked, inside)
    if tty and not spec.get("tty"):
        print(f"Unable to use a TTY - container {inside} did not allocate one", file=sys.stderr)
        tty = False
    if stdin and not spec.get("stdin"):
        raise PodlabError(
            f"container {inside} of pod {picked.name} reads no standard input: its spec has no stdin: true"
        )
    if tty and not (stdin and sys.stdin.isatty()):
        print("Unable to use a TTY - input is not a terminal or the right kind of file", file=sys.stderr)
        tty = False
    # Only this command and its kin need it.
    from ..runtime.attach import attach as carry

    carry(state["name"], picked.uid, inside, stdin=stdin, terminal=tty, once=bool(spec.get("stdinOnce")))

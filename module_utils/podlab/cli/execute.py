"""`exec`: a command in a running container."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..errors import PodlabError
from . import lab, pick

# What runc answers when it is itself that fails, not the command.
CANNOT_RUN = 255


def execute(
    word: str,
    argv: Sequence[str],
    *,
    name: str = "",
    namespace: str = "",
    container: str = "",
    stdin: bool = False,
    tty: bool = False,
) -> int:
    """Run argv in a pod's container; return its exit code (128 + number for a signal).

    word: the pod, as pick.pod takes it. name: the lab. stdin: pass our standard input on. tty: in its own terminal.
    Raises PodlabError, with exit code 255 when the command cannot be started.
    """
    if not argv:
        raise PodlabError("exec: you must specify at least one command for the container: exec POD -- COMMAND ARG...")
    state = lab.read(name)
    picked = pick.pod(state, word, namespace)
    inside = pick.container(picked, container)
    pick.running(picked, inside)
    if tty and not (stdin and sys.stdin.isatty()):
        print("Unable to use a TTY - input is not a terminal or the right kind of file", file=sys.stderr)
        tty = False
    # Only this command needs the machinery of namespaces.
    from ..runtime.exec import exec_in

    try:
        return exec_in(state["name"], picked.uid, inside, list(argv), stdin=stdin, terminal=tty)
    except (PodlabError, OSError) as error:
        raise PodlabError(
            f"exec: cannot run {argv[0]!r} in container {inside} of pod {picked.name}: {error}", exit_code=CANNOT_RUN
        ) from error

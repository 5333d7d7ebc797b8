"""Why a container ended, in its own words; and what stays of those that have ended."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Mapping
from typing import Any

from . import containerroot, paths
from .crilog import last_text
from .files import remove_tree

TERMINATION_LIMIT = 4096
# MaxContainerTerminationMessageLogLines and -Length.
LOG_LINES = 80
LOG_LIMIT = 2048


def termination_message(config: Mapping[str, Any], container: Mapping[str, Any], run: int) -> str:
    """What the container left in its termination log: at most the last 4096 bytes of a regular file."""
    path = f"{containerroot.run_dir(config, container, run)}/termination-log"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return ""
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return ""
        start = max(0, status.st_size - TERMINATION_LIMIT)
        return os.pread(fd, TERMINATION_LIMIT, start).decode("utf-8", "replace")
    finally:
        os.close(fd)


def falls_back(container: Mapping[str, Any], code: int) -> bool:
    """Whether the end of the log is the message of a container that left none: FallbackToLogsOnError, and it failed."""
    return code != 0 and container.get("termination_message_policy") == "FallbackToLogsOnError"


def from_log(log: str) -> str:
    """The end of a log, as far as a termination message goes."""
    return last_text(log, LOG_LINES, LOG_LIMIT)


def forget_older(config: Mapping[str, Any], name: str, run: int) -> None:
    """Before a run: of those before it only the last one's layers and log stay (MaxPerPodContainer).

    What cannot be removed goes with the pod.
    """
    if run < 2:
        return
    layers = os.path.dirname(containerroot.run_dir(config, {"name": name}, run))
    logs = f"{paths.node_view_of_logs(config)}/{name}"
    with contextlib.suppress(OSError):
        for entry in os.listdir(layers):
            if entry.isdigit() and int(entry) < run - 1:
                remove_tree(f"{layers}/{entry}")
        for entry in os.listdir(logs):
            number, _, rest = entry.partition(".")
            if rest.startswith("log") and number.isdigit() and int(number) < run - 1:
                os.unlink(f"{logs}/{entry}")

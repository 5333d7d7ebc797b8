"""Why a container ended, in its own words."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import Any

from . import containerroot

TERMINATION_LIMIT = 4096


def termination_message(config: Mapping[str, Any], container: Mapping[str, Any], run: int) -> str:
    """What the container left in its termination log: at most 4096 bytes of a regular file."""
    path = f"{containerroot.run_dir(config, container, run)}/termination-log"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return ""
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, TERMINATION_LIMIT).decode("utf-8", "replace")
    finally:
        os.close(fd)

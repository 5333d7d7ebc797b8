"""Secrets on their way from the task that reads manifests to those that need them: by a file, which no output shows.

What a task returns is shown with -v and kept as a variable. Ansible's own temporary directory on the controller is this
user's alone, and goes when the playbook ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import Any

from ..errors import PodlabError

_MARK = "file:"
_OPTION = "secrets"


def give(word: str, directory: str) -> str:
    """Put the word into a file of the directory; return what stands for it. An empty word stands for itself."""
    if not word:
        return ""
    # mkstemp makes it with mode 0600.
    fd, path = tempfile.mkstemp(prefix="podlab-secrets-", dir=directory)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(word)
    return _MARK + path


def taken(args: Mapping[str, Any]) -> dict[str, Any]:
    """A task's arguments with the word in place of what stands for it. Raises PodlabError when the file is gone."""
    stands = args.get(_OPTION)
    if not isinstance(stands, str) or not stands.startswith(_MARK):
        return dict(args)
    try:
        with open(stands[len(_MARK) :], encoding="ascii") as file:
            return {**args, _OPTION: file.read()}
    except OSError as error:
        raise PodlabError(f"secrets: {stands} is only for the playbook run that returned it: {error}") from error

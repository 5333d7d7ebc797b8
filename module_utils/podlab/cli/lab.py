"""Which lab, which files: what every command asks first."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from ..errors import PodlabError
from ..runtime import state

# The repository: playbooks, ansible.cfg, tests.
ROOT = pathlib.Path(__file__).resolve().parents[3]

DEFAULT_NAME = "kind"


def user_path(text: str) -> pathlib.Path:
    """The path as the user meant it: relative to where ./lab was called.

    Raises PodlabError when there is nothing.
    """
    path = pathlib.Path(os.environ.get("PODLAB_CWD") or os.getcwd(), text)
    if not path.exists():
        raise PodlabError(f"{text}: no such file or directory (looked in {path.parent})")
    return path


def lab_name(name: str = "") -> str:
    """The lab that is meant: --name, else KIND_CLUSTER_NAME, else the only one there is, else "kind".

    Raises PodlabError when there is no such lab on this machine.
    """
    there = state.labs()
    wanted = name or os.environ.get("KIND_CLUSTER_NAME", "")
    if not wanted:
        wanted = there[0] if len(there) == 1 else DEFAULT_NAME
    if wanted in there:
        return wanted
    if not there:
        raise PodlabError("There is no lab on this machine. Make one with ./lab up")
    raise PodlabError(f"There is no lab {wanted!r} on this machine, only: {', '.join(there)}. Say which with --name")


def read(name: str = "") -> dict[str, Any]:
    """State of the lab that is meant (runtime.state.read_state), with its name as "name"."""
    found = lab_name(name)
    return {**state.read_state(found), "name": found}


def whole(name: str = "") -> dict[str, Any]:
    """As read. Raises PodlabError also when the lab's record is not written yet: its nodes are not known then."""
    found = read(name)
    if not found["cluster"]:
        raise PodlabError(
            f"The lab {found['name']} is half made. Finish it with ./lab up, or remove it with ./lab down"
        )
    return found

# SPDX-License-Identifier: Apache-2.0
"""Hold a lab for the length of a play; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: podlab_lock
short_description: Hold a lab while a play changes it
description:
  - Notes on the controller that this C(ansible-playbook) changes a lab, by pid and start time. Another run fails at
    once and says who holds the lab since when. A run that was killed holds nothing.
version_added: "0.1.0"
options:
  name:
    description: Name of the lab.
    type: str
    required: true
  state:
    description: Whether the lab is held.
    type: str
    choices: [held, released]
    default: held
attributes:
  check_mode:
    description: Nothing is noted in check mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Holding twice is holding once.
    support: full
  platform:
    description: Where the module works.
    support: full
    platforms: linux
author: the podlab developers (@podlab)
"""

EXAMPLES = r"""
- name: Keep others from changing the lab
  podlab_lock:
    name: kind
"""

RETURN = r"""
changed:
  description: Always false; the note is no part of the lab.
  returned: always
  type: bool
  sample: false
"""

from typing import Any


def argument_spec() -> dict[str, Any]:
    """The options, as DOCUMENTATION describes them."""
    return {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
    }

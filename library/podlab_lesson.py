# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action podlab_lesson; its code is plugins/action/podlab_lesson.py."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: podlab_lesson
short_description: One step of a lesson, with its commands run and its claims proved
description:
  - Runs commands as a person would type them, on the task's host, and checks what the step claims about them.
  - The task's name is the step's title. The callback P(lesson#callback) shows the whole step; any other shows the
    result.
  - A command runs by C(/bin/sh), with its error output among its output, in the repository when the host is local. It
    is stopped after 30 seconds.
version_added: "0.1.0"
options:
  why:
    description: What the step is about. Paragraphs are separated by an empty line.
    type: str
    required: true
  commands:
    description: What is typed, in order. Each has a shell of its own, so that no variable lasts from one to the next.
    type: list
    elements: dict
    default: []
    suboptions:
      command:
        description: The command, as shown and as run. May have several lines.
        type: str
        required: true
      exit_code:
        description: How it ends. A command that ends otherwise fails the step.
        type: int
        default: 0
      lines:
        description: How many lines of its output are shown.
        type: int
        default: 12
  claims:
    description: What the step proves. A claim that is not true fails the step.
    type: list
    elements: dict
    default: []
    suboptions:
      claim:
        description: The claim, for the reader.
        type: str
        required: true
      that:
        description:
          - Conditions, as in M(ansible.builtin.assert), that are true when the claim is.
          - They may use C(outputs), the outputs of the commands in order, and C(output), the last of them.
        type: list
        elements: raw
        required: true
  remember:
    description: One sentence to take away.
    type: str
    default: ''
  within:
    description:
      - How many seconds the claims may take to become true. Until then the commands are run again, so they must only
        look.
    type: int
    default: 0
attributes:
  check_mode:
    description: A lesson does what it shows. In check mode the step is skipped.
    support: none
  diff_mode:
    description: There is nothing to compare.
    support: none
  idempotent:
    description: The commands are the lesson's.
    support: none
  platform:
    description: Where the module runs.
    support: full
    platforms: linux
author: the podlab developers (@podlab)
"""

EXAMPLES = r"""
- name: A child inherits its parent's namespaces
  podlab_lesson:
    why: A namespace is named by its inode.
    commands:
      - command: readlink /proc/$$/ns/net
      - command: sh -c 'readlink /proc/$$/ns/net'
    claims:
      - claim: Shell and child are in the same network namespace.
        that:
          - outputs[0] == outputs[1]
    remember: Only unshare, clone and setns change it.
"""

RETURN = r"""
outputs:
  description: The outputs of the commands, in order.
  returned: always
  type: list
  elements: str
  sample: ["net:[4026531840]"]
output:
  description: The output of the last command.
  returned: always
  type: str
  sample: "net:[4026531840]"
lesson:
  description: The whole step as data, for what shows it.
  returned: always
  type: dict
  sample:
    title: Namespaces
    why: A namespace is named by its inode.
    where: machine
    commands: [{command: "true", exit_code: 0, ended: 0, lines: 12, output: ""}]
    claims: [{claim: It ends well., problem: ""}]
    remember: ""
"""

from typing import Any

from ansible.module_utils.podlab import lesson_options


def argument_spec() -> dict[str, Any]:
    """The options, as DOCUMENTATION describes them."""
    return lesson_options.argument_spec()

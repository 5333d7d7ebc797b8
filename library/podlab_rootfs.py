# SPDX-License-Identifier: Apache-2.0
"""Make root directories out of the machine's own binaries."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podlab_rootfs
short_description: Root directories for chroot, pivot_root and overlay, from the machine's own binaries
description:
  - Makes directories that can serve as C(/), out of binaries of this machine with the loader and libraries that their
    ELF headers ask for (what ldd prints, found without running anything), busybox, an archive, and extras.
  - A root is built beside its place and put there by one rename. The directory carries podlab's mark in an extended
    attribute; only a marked directory is ever replaced or removed.
version_added: "0.1.0"
author: The podlab authors
attributes:
  check_mode:
    support: full
    description: Says what would be built.
  diff_mode:
    support: full
    description: Shows the digest of the contents before and after, and whether someone changed the directory by hand.
  idempotent:
    support: full
    description: A root whose contents are as asked is left alone; one that was changed by hand is built again.
  platform:
    support: full
    description: Linux with ELF binaries; the file system must have trusted extended attributes.
    platforms: linux
options:
  rootfs:
    description: The root directories.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: The directory.
        type: str
        required: true
      binaries:
        description: Absolute paths of binaries; each comes with what it needs, under the same paths.
        type: list
        elements: str
        default: []
      busybox:
        description: Put the machine's busybox there with a link for every applet whose name is free.
        type: bool
        default: false
      tar:
        description: Archive on the machine to begin with (plain, gzip, bzip2 or xz). Device nodes are left out.
        type: str
        default: ""
      directories:
        description: Further directories.
        type: list
        elements: dict
        default: []
        suboptions:
          path: {description: Absolute path in the root., type: str, required: true}
          mode: {description: Permissions as an octal string., type: str, default: "0755"}
      files:
        description: Further files.
        type: list
        elements: dict
        default: []
        suboptions:
          path: {description: Absolute path in the root., type: str, required: true}
          content: {description: The text of the file., type: str, default: ""}
          source: {description: A file of the machine to copy instead., type: str, default: ""}
          mode: {description: Permissions as an octal string. Default 0644 or the mode of the source., type: str}
      links:
        description: Symbolic links.
        type: list
        elements: dict
        default: []
        suboptions:
          path: {description: Absolute path in the root., type: str, required: true}
          target: {description: What the link says., type: str, required: true}
      state:
        description: V(absent) removes a directory that podlab made; any other is an error.
        type: str
        choices: [present, absent]
        default: present
"""

EXAMPLES = r"""
- name: The root of the chroot lesson
  podlab_rootfs:
    rootfs:
      - path: /tmp/myroot
        binaries: [/bin/sh, /bin/ls, /bin/bash]

- name: Two roots for the overlay lesson
  podlab_rootfs:
    rootfs:
      - path: /tmp/tools
        binaries: [/bin/rm]
      - path: /tmp/base
        busybox: true
        directories: [{path: /tmp, mode: "1777"}, {path: /proc}]
        files: [{path: /etc/motd, content: "hello\n"}]
"""

RETURN = r"""
changed:
  description: Whether a root was (in check mode, would be) built or removed.
  returned: always
  type: bool
commands:
  description: The commands a person would type, as argument lists, in order.
  returned: always
  type: list
  sample: [[mkdir, -p, /tmp/myroot], [cp, --parents, -L, /bin/sh, /lib/x86_64-linux-gnu/libc.so.6, /tmp/myroot]]
results:
  description: Per root C(name), C(changed) and C(steps).
  returned: always
  type: list
  sample: [{name: /tmp/myroot, changed: false, steps: []}]
rootfs:
  description: Path -> C(path), C(present) and C(contents), the digest of what it was asked to hold.
  returned: always
  type: dict
  sample: {/tmp/myroot: {path: /tmp/myroot, present: true, contents: 68cee3dc}}
diff:
  description: Per changed root the digest of its contents before and after.
  returned: in diff mode
  type: list
  sample: []
"""

import re
import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab import module as glue
from ansible.module_utils.podlab.errors import Problem, refuse
from ansible.module_utils.podlab.rootfs_plan import Planner, Want
from ansible.module_utils.podlab.runtime.rootfs import File, Request


def argument_spec() -> dict[str, Any]:
    """The options, as DOCUMENTATION describes them."""
    path = {"type": "str", "required": True}
    text = {"type": "str", "default": ""}

    def several(options: dict[str, Any]) -> dict[str, Any]:
        return {"type": "list", "elements": "dict", "default": [], "options": options}

    options = {
        "path": path,
        "binaries": {"type": "list", "elements": "str", "default": []},
        "busybox": {"type": "bool", "default": False},
        "tar": text,
        "directories": several({"path": path, "mode": {"type": "str", "default": "0755"}}),
        "files": several({"path": path, "content": text, "source": text, "mode": {"type": "str"}}),
        "links": several({"path": path, "target": path}),
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    return {"rootfs": {"type": "list", "elements": "dict", "required": True, "options": options}}


def _modes(roots: list[dict[str, Any]]) -> None:
    """Octal strings to numbers, in place; every wrong one is reported."""
    problems = []
    for number, root in enumerate(roots):
        for key in ("directories", "files"):
            for index, entry in enumerate(root[key]):
                text = entry["mode"]
                if text is not None and not re.fullmatch("[0-7]{3,4}", text):
                    place = f"rootfs[{number}].{key}[{index}].mode"
                    problems.append(Problem(place, f'must be an octal string as "0755", not {text!r}'))
                elif text is not None:
                    entry["mode"] = int(text, 8)
    refuse(problems)


def _request(root: dict[str, Any]) -> Request:
    busybox = (shutil.which("busybox") or "/bin/busybox") if root["busybox"] else ""
    return Request(
        tuple(root["binaries"]),
        busybox,
        root["tar"],
        tuple((entry["path"], entry["mode"]) for entry in root["directories"]),
        tuple(File(entry["path"], entry["content"], entry["source"], entry["mode"]) for entry in root["files"]),
        tuple((entry["path"], entry["target"]) for entry in root["links"]),
    )


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    roots = module.params["rootfs"]
    with glue.failing(module):
        _modes(roots)
    planner = Planner([Want(root["path"], _request(root) if root["state"] == "present" else None) for root in roots])

    def state() -> dict[str, Any]:
        for note in planner.notes:
            module.warn(note)
        return planner.state()

    glue.run(module, "rootfs", planner.plan, state)


if __name__ == "__main__":
    main()

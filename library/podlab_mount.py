# SPDX-License-Identifier: Apache-2.0
"""The podlab_mount module."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podlab_mount
short_description: Mounts as the kernel has them
description:
  - Makes, changes and removes mounts of this machine or of another mount namespace. No fstab is read or written.
  - What is there is read from C(/proc/self/mountinfo) and compared option by option; a mount that a remount cannot
    change (the layers of an overlay, the source of a bind) is unmounted and mounted anew.
  - Of mounts stacked on one path the topmost is compared. Only the paths in the list are touched.
options:
  mounts:
    description:
      - The mounts. Absent ones are taken away first, deepest first; then the present ones are made in the order given.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where to mount. Absolute, not C(/).
        type: str
        required: true
      type:
        description:
          - File system type, or V(bind) or V(rbind) to show another path here. Needed when O(mounts[].state=present).
          - With O(mounts[].state=absent) a mount of another type is an error unless O(mounts[].force).
        type: str
      source:
        description: What to mount (the path shown by a bind, a device, a name). The type's name when left out.
        type: str
      options:
        description:
          - Option words. Given, they are the whole truth about the flags of the mount (V(nosuid), V(noexec), ...);
            of the file system's own options (V(size=64m)) those named are compared.
          - Left out, the options are left alone.
        type: list
        elements: str
      lowerdirs:
        description: Lower directories of an overlay, topmost first.
        type: list
        elements: str
      upperdir:
        description: Upper directory of an overlay.
        type: str
      workdir:
        description: Work directory of an overlay, on the file system of the upper one.
        type: str
      propagation:
        description: Propagation of the mount; with C(r) of those below it too.
        type: str
        choices: [private, rprivate, slave, rslave, shared, rshared, unbindable, runbindable]
      read_only:
        description: Read-only or not, whatever else the options are.
        type: bool
      state:
        description: Whether it should be there.
        type: str
        choices: [present, absent]
        default: present
      create:
        description:
          - Make a missing mountpoint (a directory, or a file for the bind of a file) and mark it, so that
            O(mounts[].state=absent) removes it again when it is empty.
        type: bool
        default: true
      force:
        description: Unmount what is in the way (a foreign mount on the path, mounts on the mount that has to go).
        type: bool
        default: false
      namespace:
        description: Pid of a process in the mount namespace to act in, or the path of its namespace file.
        type: str
author: [podlab]
attributes:
  check_mode:
    support: full
    description: Predicts without changing anything, also for mounts that rest on earlier ones of the list.
  diff_mode:
    support: full
    description: Shows the managed properties before and after.
  idempotent:
    support: full
    description: A second run with the same input changes nothing.
  platform:
    support: full
    platforms: Linux
    description: Needs root.
"""

EXAMPLES = r"""
- name: A container's root from two image layers and a writable one
  podlab_mount:
    mounts:
      - path: /run/demo/root
        type: overlay
        lowerdirs: [/srv/layers/app, /srv/layers/base]
        upperdir: /srv/demo/upper
        workdir: /srv/demo/work
        propagation: private
      - path: /run/demo/root/data
        type: bind
        source: /srv/data
        read_only: true
      - path: /run/demo/root/dev/shm
        type: tmpfs
        options: [nosuid, nodev, noexec, mode=1777, size=64m]

- name: The same gone again
  podlab_mount:
    mounts:
      - path: /run/demo/root/dev/shm
        state: absent
      - path: /run/demo/root/data
        state: absent
      - path: /run/demo/root
        state: absent
"""

RETURN = r"""
changed:
  description: Whether anything was, or in check mode would be, done.
  returned: always
  type: bool
  sample: true
mounts:
  description: The listed paths as they are in the end.
  returned: success
  type: list
  elements: dict
  sample: [{path: /run/demo/root, state: present, type: tmpfs, source: tmpfs, root: /, options: [rw, relatime],
            super_options: [rw], propagation: private}]
commands:
  description: What a person would have typed, in order.
  returned: success
  type: list
  elements: list
  sample: [[mount, -t, tmpfs, -o, "size=64m", tmpfs, /run/demo/shm]]
results:
  description: Per mount, in the order worked on, its name, whether it changed, and the steps with their reasons.
  returned: success
  type: list
  elements: dict
  sample: [{name: /run/demo/shm, changed: true, steps: ["mount.add /run/demo/shm: missing"]}]
diff:
  description: Per changed mount the managed properties before and after.
  returned: in diff mode
  type: list
  elements: dict
  sample: [{before_header: /run/demo, after_header: /run/demo, before: {state: absent}, after: {state: present}}]
problems:
  description: Every problem of the input, with place, message and remedy.
  returned: on failure because of the input
  type: list
  elements: dict
  sample: [{place: "mounts[0].type", message: is missing}]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab import mount_calls
from ansible.module_utils.podlab.errors import Problem, refuse
from ansible.module_utils.podlab.linux.mountinfo import at
from ansible.module_utils.podlab.module import run
from ansible.module_utils.podlab.mount_model import Look, Model
from ansible.module_utils.podlab.mount_plan import plan
from ansible.module_utils.podlab.mount_want import wanted
from ansible.module_utils.podlab.step import Item


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    kinds = ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"]
    words = {"type": "list", "elements": "str"}
    options = {
        "path": {"type": "str", "required": True},
        "type": {"type": "str"},
        "source": {"type": "str"},
        "options": words,
        "lowerdirs": words,
        "upperdir": {"type": "str"},
        "workdir": {"type": "str"},
        "propagation": {"type": "str", "choices": kinds},
        "read_only": {"type": "bool"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "create": {"type": "bool", "default": True},
        "force": {"type": "bool", "default": False},
        "namespace": {"type": "str"},
    }
    return {"mounts": {"type": "list", "elements": "dict", "required": True, "options": options}}


def main() -> None:
    """Observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)

    def looks() -> tuple[list[Any], dict[str, Look]]:
        wants, problems = wanted(module.params["mounts"])
        found: dict[str, Look] = {}
        for want in wants:
            try:
                found.setdefault(want.namespace, mount_calls.look(want.namespace))
            except OSError as error:
                text = f"cannot enter mount namespace {want.namespace}: {error.strerror}"
                problems.append(Problem(f"{want.place}.namespace", text, "Give the pid of a live process or a path"))
        refuse(problems, "The mounts are not valid")
        return wants, found

    def items() -> list[Item]:
        wants, found = looks()
        planned, problems = plan(wants, {name: Model(look) for name, look in found.items()})
        refuse(problems, "The mounts cannot be made")
        return planned

    def state() -> list[dict[str, Any]]:
        wants, found = looks()
        return [_state(want, found[want.namespace]) for want in wants]

    run(module, "mounts", items, state)


def _state(want: Any, look: Look) -> dict[str, Any]:
    entry = at(look.table, look.real(want.path))
    if entry is None:
        return {"path": want.path, "state": "absent"}
    return {
        "path": want.path,
        "state": "present",
        "type": entry.fstype,
        "source": entry.source,
        "root": entry.root,
        "options": list(entry.options),
        "super_options": list(entry.super_options),
        "propagation": entry.propagation,
    }


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Make container images present on a machine, with or without a registry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podlab_image
short_description: Container images in podlab's store
description:
  - Makes images present in C(/var/lib/podlab/images), one directory per layer, so that an overlay mount can use them.
  - C(busybox), C(nginx), C(registry.k8s.io/pause) and C(docker.io/podlab/dns) with their usual tags are made from
    Debian's packages, without a registry and without installing anything. Every other image is pulled with skopeo;
    each digest is checked, and each layer is unpacked so that nothing in it lands outside its directory.
  - Every image that cannot be had is reported before anything is built or pulled.
version_added: "0.1.0"
author: The podlab authors
attributes:
  check_mode:
    support: full
    description: Says what would be built or pulled. Registries are asked, nothing is downloaded but configurations.
  diff_mode:
    support: full
    description: Shows id and layers of each image before and after.
  idempotent:
    support: full
    description: A second run changes nothing unless a registry or a package mirror has something newer.
  platform:
    support: full
    description: Debian and its family; pulling works on any Linux with skopeo.
    platforms: linux
options:
  images:
    description: The images.
    type: list
    elements: dict
    required: true
    suboptions:
      reference:
        description: Name as in a manifest; C(busybox) means C(docker.io/library/busybox:latest).
        type: str
        required: true
      policy:
        description:
          - Kubernetes' C(imagePullPolicy). V(Always) asks the registry (or apt) whether there is a newer one,
            V(IfNotPresent) takes what is there, V(Never) fails when it is not there.
          - The default is Kubernetes' own, V(Always) for the tag C(latest), else V(IfNotPresent).
        type: str
        choices: [Always, IfNotPresent, Never]
      state:
        description: V(absent) forgets the image, and removes the layers that no other image and no mount uses.
        type: str
        choices: [present, absent]
        default: present
"""

EXAMPLES = r"""
- name: What the lab's pods need
  podlab_image:
    images:
      - reference: busybox
        policy: IfNotPresent
      - reference: registry.k8s.io/pause:3.10.2
      - reference: localhost:5000/team/web:1.4

- name: Forget an image
  podlab_image:
    images:
      - reference: localhost:5000/team/web:1.3
        state: absent
"""

RETURN = r"""
changed:
  description: Whether an image was (in check mode, would be) built, pulled or removed.
  returned: always
  type: bool
commands:
  description: The commands a person would type, as argument lists, in order.
  returned: always
  type: list
  sample: [[skopeo, copy, "docker://localhost:5000/team/web:1.4", "dir:/var/lib/podlab/images/layers/..."]]
results:
  description: Per image C(name), C(changed) and C(steps).
  returned: always
  type: list
  sample: [{name: "docker.io/library/busybox:latest", changed: false, steps: []}]
images:
  description:
    - Reference as given -> C(reference) (normalised), C(id), C(layers) (absolute directories, bottom first), C(config),
      C(present).
    - In check mode an image that is not there yet has C(present) false. Its id and layers are known when it would be
      pulled, and a placeholder named C(unbuilt) when it would be built.
  returned: always
  type: dict
  sample:
    busybox:
      reference: docker.io/library/busybox:latest
      id: sha256:68cee3dc84ec27f5541e4daf8f210547003e2ddbf30d6cd3d8fed21d63fff433
      layers: [/var/lib/podlab/images/layers/2dfb7ec72a89fc949ab126613c3e496de2bcb1d8b3b89e78df75c934420b4419]
      config: {Cmd: [sh]}
      present: true
diff:
  description: Per changed image its id and layers before and after.
  returned: in diff mode
  type: list
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab import module as glue
from ansible.module_utils.podlab.errors import PodlabError
from ansible.module_utils.podlab.image_plan import POLICIES, Planner, Want, default_policy


def argument_spec() -> dict[str, Any]:
    """The options, as DOCUMENTATION describes them."""
    return {
        "images": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "reference": {"type": "str", "required": True},
                "policy": {"type": "str", "choices": list(POLICIES)},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            },
        }
    }


def _want(image: dict[str, Any]) -> Want:
    reference = str(image["reference"])
    try:
        policy = image["policy"] or default_policy(reference)
    except PodlabError:
        policy = "Never"  # the planner refuses the name, with all the others
    return Want(reference, policy, image["state"])


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    planner = Planner([_want(image) for image in module.params["images"]])
    glue.run(module, "images", planner.plan, planner.state, apply_all=planner.apply)


if __name__ == "__main__":
    main()

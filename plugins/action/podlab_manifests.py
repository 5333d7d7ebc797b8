# SPDX-License-Identifier: Apache-2.0
"""Manifests in, the plan of the lab out. Runs on the controller; its documentation is library/podlab_manifests.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.plugins.action import ActionBase

try:
    import podlab  # noqa: F401
except ImportError:
    sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from podlab import controller
from podlab.cli import handover
from podlab.errors import PodlabError
from podlab.kube.cluster import Cluster
from podlab.manifests_options import argument_spec
from podlab.runtime.state import read_state

# The module that reads the same state on a machine behind a connection.
_STATE_MODULE = "podlab_pod_info"


class ActionModule(ActionBase):
    """Reads, checks and plans; changes nothing, so check mode is the same as a real run."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The task's result: the plan, or every problem of the input."""
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(argument_spec())
        try:
            cluster = Cluster.of_option(options["cluster"])
            change = controller.Change(
                options["manifests_dir"], tuple(options["apply"]), tuple(options["delete"]), options["scale"]
            )
            planned = controller.plan_lab(cluster, self._state(cluster.name, task_vars or {}), change)
        except PodlabError as error:
            problems = [problem._asdict() for problem in error.problems]
            return {"failed": True, "msg": error.message, "problems": problems, **error.details}
        planned["secrets"] = handover.give(planned["secrets"], C.DEFAULT_LOCAL_TMP)
        return {"changed": False, "commands": [], "results": [], **planned}

    def _state(self, cluster: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        """What is there of the lab on the machine. A virgin machine has nothing, which is an answer too."""
        play = self._task.become
        if self._play_context.connection == "local" and not play:
            try:
                return read_state(cluster)
            except PermissionError as error:
                raise PodlabError(f"Cannot read the state of the lab {cluster}: {error}. Run as root") from error
        result = self._execute_module(module_name=_STATE_MODULE, module_args={"cluster": cluster}, task_vars=task_vars)
        if result.get("failed"):
            raise PodlabError(f"Cannot read the state of the lab {cluster}: {result.get('msg', '')}")
        state: dict[str, Any] = result["state"]
        return state

# SPDX-License-Identifier: Apache-2.0
"""podlab_gateway, run in place on this machine; its documentation is library/podlab_gateway.py."""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import podlab  # noqa: F401
except ImportError:
    sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from podlab.cli.local_module import ActionModule

__all__ = ["ActionModule"]

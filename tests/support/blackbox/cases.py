"""All cases."""

from __future__ import annotations

from support.blackbox.files import COMMANDS, FILES
from support.blackbox.limits import LIMITS
from support.blackbox.model import Case
from support.blackbox.plain import PLAIN
from support.blackbox.pods import PODS
from support.blackbox.rights import GROUPS, RIGHTS_POD

CASES: tuple[Case, ...] = (PLAIN, RIGHTS_POD, GROUPS, *PODS, FILES, COMMANDS, *LIMITS)

"""CrashLoopBackOff: how long a container waits before it is started again.

Sources: client-go util/flowcontrol/backoff.go, kubelet doBackOff. The clock starts at the end of the last run.
"""

from __future__ import annotations

from typing import NamedTuple

INITIAL = 10.0
CAP = 300.0
FACTOR = 2
RESET_AFTER = 600.0


class BackOff(NamedTuple):
    """delay: seconds that the next restart has to wait; 0 before the first."""

    delay: float = 0.0

    def after(self, ran: float, cap: float = CAP) -> tuple[float, BackOff]:
        """(seconds to wait from the end of the run, the back-off after that).

        ran: how long the run lasted, seconds; more than ten minutes forgives everything.
        cap: maxContainerRestartPeriod; it lowers the initial value too when it is below.
        """
        if ran > RESET_AFTER or not self.delay:
            return 0.0, BackOff(min(INITIAL, cap))
        return self.delay, BackOff(min(self.delay * FACTOR, cap))


def message(delay: float, container: str, pod: str, namespace: str, uid: str) -> str:
    """The Waiting state's message, as kubelet words it."""
    seconds = int(delay)
    spelled = f"{seconds // 60}m{seconds % 60}s" if seconds >= 60 else f"{seconds}s"
    return f"back-off {spelled} restarting failed container={container} pod={pod}_{namespace}({uid})"

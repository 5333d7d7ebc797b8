"""How one container is ended: preStop hook, its turn, the stop signal, KILL, each in what is left of the grace period.

Pure; the clock is the caller's. Source: k8s pkg/kubelet/kuberuntime/kuberuntime_container.go (killContainer).
The pod supervisor imports this file, hence no import that costs memory.
"""

from __future__ import annotations

# The kubelet's minimumGracePeriodInSeconds: what a container has at least between the signal and KILL.
MINIMUM = 2.0
# In place of a grace period: KILL, and nothing before it.
AT_ONCE = -1.0
HOOK, TURN, SIGNALLED, FORCED, KILLED = "hook", "turn", "signalled", "forced", "killed"
# What is to be done.
NOTHING, SIGNAL, KILL = "nothing", "signal", "kill"


class Stop:
    """The ending of one run. grace: seconds, or AT_ONCE. hook: there is a preStop hook, which begins now."""

    __slots__ = ("left", "since", "stage")

    def __init__(self, grace: float, hook: bool, now: float) -> None:
        self.left = grace
        self.since = now
        self.stage = FORCED if grace < 0 else HOOK if hook else TURN

    def step(self, now: float, hooked: bool, turn: bool) -> str:
        """What to do now. hooked: its hook is still under way. turn: nothing that ends before it runs any more."""
        over = now - self.since >= self.left
        if self.stage == HOOK and (over or not hooked):
            self._spend(now)
            self.stage = TURN
            over = self.left <= 0
        if self.stage == TURN and (over or turn):
            self._spend(now)
            self.stage, self.left = SIGNALLED, max(MINIMUM, self.left)
            return SIGNAL
        if self.stage == FORCED or (self.stage == SIGNALLED and over):
            self.stage = KILLED
            return KILL
        return NOTHING

    def _spend(self, now: float) -> None:
        """What has passed is taken off, in whole seconds, as the kubelet counts."""
        self.left -= int(now - self.since)
        self.since = now

    def next_at(self) -> float | None:
        """When step() has to be asked again, if nothing happens before; None: not any more."""
        return None if self.stage == KILLED else self.since + self.left

    def shorten(self, grace: float, now: float) -> None:
        """From now on there is only so much of the grace period; it never grows."""
        if self.stage == KILLED or now + grace >= self.since + self.left:
            return
        self.since, self.left = now, grace
        if grace < 0:
            self.stage = FORCED
        elif self.stage == SIGNALLED:
            self.left = max(MINIMUM, grace)

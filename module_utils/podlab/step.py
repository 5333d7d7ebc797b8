"""A Step is data: what it does to which object, why, the command a person would type, and the call."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from .errors import PodlabError


class Step(NamedTuple):
    """One change of the kernel's or the disk's state.

    kind: what sort of change, noun.verb ("link.add", "mount.remount").
    target: the object, as a person names it ("veth0 in netns red").
    argv: the command that a person would type for the same effect.
    why: the reason ("mtu 1500 -> 1450", "missing").
    call: performs it; called as call(**args). None for a step that only narrates.
    args: plain values for call.
    """

    kind: str
    target: str
    argv: tuple[str, ...]
    why: str
    call: Callable[..., Any] | None = None
    args: Mapping[str, Any] = {}

    def typed(self) -> str:
        """The command as one line of shell."""
        return shlex.join(self.argv)


class Item(NamedTuple):
    """The plan for one object of a module's list.

    name: how the object is called in `results` and in the diff's headers.
    steps: what has to be done, in order; empty when it is as wanted.
    before, after: the managed properties only, as plain values.
    """

    name: str
    steps: Sequence[Step]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


def apply(steps: Iterable[Step]) -> list[Step]:
    """Perform the steps in order; return them.

    Raises PodlabError naming the step that failed, with `completed` and `remaining` typed commands in its details.
    """
    planned = list(steps)
    for number, step in enumerate(planned):
        if step.call is None:
            continue
        try:
            step.call(**step.args)
        except (OSError, PodlabError) as error:
            details = dict(getattr(error, "details", {}))
            details.update(
                failed_command=step.typed(),
                completed=[done.typed() for done in planned[:number]],
                remaining=[rest.typed() for rest in planned[number + 1 :]],
            )
            raise PodlabError(
                f"Cannot do {step.kind} on {step.target} ({step.why}): {error}",
                getattr(error, "problems", ()),
                **details,
            ) from error
    return planned

"""Is the machine fit to carry nodes? Every check at once, each with its remedy."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, NamedTuple

from .errors import PodlabError, Problem, refuse
from .linux import swap
from .prereq_checks import CHECKS, NOT_APPLIED, checks_for
from .prereq_facts import Facts, Wanted
from .step import Step

ALONE_FIRST = "IsPrivilegedUser"


class Outcome(NamedTuple):
    """What one check came to. message: why it failed; empty when ok."""

    name: str
    level: str
    ok: bool
    message: str
    remedy: str
    ignored: bool

    def problem(self) -> Problem:
        """The outcome as one line of an error."""
        return Problem(self.name, self.message, self.remedy, level=self.level)


def unknown_names(ignore: Sequence[str]) -> list[Problem]:
    """One problem per name that no check has."""
    known = {"all", *(name.lower() for name in NOT_APPLIED)}
    known.update(name.lower() for check in CHECKS for name in (check.name, check.group) if name)
    return [
        Problem(f"ignore[{number}]", f"no check is called {name!r}", "See the result's checks for the names.")
        for number, name in enumerate(ignore)
        if name.lower() not in known
    ]


def bad_subnets(wanted: Wanted) -> list[Problem]:
    """One problem per subnet that is none. Dual-stack clusters write two, with a comma between."""
    problems = []
    for option in ("pod_subnet", "service_subnet"):
        for text in filter(None, getattr(wanted, option).split(",")):
            try:
                ipaddress.ip_network(text)
            except ValueError as error:
                problems.append(Problem(option, f"must be a subnet like 10.244.0.0/16; {error}"))
    return problems


def judge(facts: Facts, wanted: Wanted, ignore: Sequence[str] = (), swap_goes_off: bool = False) -> list[Outcome]:
    """Every check of the role on these facts. Pure.

    ignore: names or groups of checks, any case, or "all"; their errors count as warnings, their warnings not at all.
    swap_goes_off: swap that is on does not count, because it will be off.
    """
    names = {name.lower() for name in ignore}
    if swap_goes_off:
        facts = facts._replace(swaps=())
    outcomes = []
    for check in checks_for(wanted.role):
        message = check.test(facts, wanted)
        # Who is not root cannot see what the other checks look at.
        ignored = bool(names & {"all", check.name.lower(), check.group.lower()}) and check.name != ALONE_FIRST
        outcomes.append(
            Outcome(check.name, check.level, not message, message, check.remedy if message else "", ignored)
        )
        if message and check.name == ALONE_FIRST:
            break
    return outcomes


def errors(outcomes: Sequence[Outcome]) -> list[Problem]:
    """The problems that stop the machine from being used."""
    return [each.problem() for each in outcomes if not each.ok and each.level == "error" and not each.ignored]


def warnings(outcomes: Sequence[Outcome]) -> list[str]:
    """What works worse than it could, and errors that were to be ignored."""
    return [
        str(each.problem())
        for each in outcomes
        if not each.ok and (each.level == "error" if each.ignored else each.level == "warning")
    ]


def demand(outcomes: Sequence[Outcome], role: str) -> None:
    """Raise PodlabError with all errors at once; its details carry the checks that failed."""
    try:
        refuse(errors(outcomes), f"This machine cannot be used as {role}")
    except PodlabError as error:
        error.details["checks"] = plain([each for each in outcomes if not each.ok])
        raise


def plain(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The outcomes as a module returns them."""
    return [each._asdict() for each in outcomes]


def swap_steps(facts: Facts) -> list[Step]:
    """What switches every swap area off, until the next boot."""
    return [Step("swap.off", path, ("swapoff", path), "swap is on", swap.off, {"path": path}) for path in facts.swaps]

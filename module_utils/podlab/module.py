"""The glue that every module shares: items in, plan, check mode, diff, commands, results out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NoReturn

from ansible.module_utils.basic import AnsibleModule

from .errors import PodlabError
from .step import Item, apply


def run(
    module: AnsibleModule,
    key: str,
    plan: Callable[[], Sequence[Item]],
    state: Callable[[], Any],
    *,
    settles: bool = True,
    apply_all: Callable[[Sequence[Item]], Any] | None = None,
) -> NoReturn:
    """Plan, apply unless in check mode, and leave through exit_json or fail_json.

    key: name of the result that carries the final state.
    plan: reads what is there and returns the items with their steps. Called once more after apply (when settles)
        and must then return no step: a kernel that ignored an option is caught here.
    state: reads the final state, plain values; in check mode it is what is there now.
    apply_all: performs the items' steps instead of the plain loop, for a module that works on many items at once.
    """
    with failing(module):
        items = list(plan())
        steps = [step for item in items for step in item.steps]
        if steps and not module.check_mode:
            (apply_all or _apply_in_order)(items)
            if settles:
                _check_settled(plan())
        module.exit_json(**_result(module, key, items, state()))
    raise AssertionError("exit_json and fail_json do not return")


@contextlib.contextmanager
def failing(module: AnsibleModule) -> Iterator[None]:
    """A PodlabError in it leaves through fail_json, with every problem as data."""
    try:
        yield
    except PodlabError as error:
        problems = [problem._asdict() for problem in error.problems]
        module.fail_json(msg=error.message, problems=problems, **error.details)


def _apply_in_order(items: Sequence[Item]) -> None:
    apply([step for item in items for step in item.steps])


def _check_settled(items: Sequence[Item]) -> None:
    left = [step for item in items for step in item.steps]
    if left:
        reasons = "; ".join(f"{step.kind} on {step.target}: {step.why}" for step in left)
        raise PodlabError(f"The kernel did not take every change. Still different: {reasons}")


def _result(module: AnsibleModule, key: str, items: Sequence[Item], state: Any) -> dict[str, Any]:
    changed = [item for item in items if item.steps]
    result: dict[str, Any] = {
        "changed": bool(changed),
        "commands": [list(step.argv) for item in items for step in item.steps],
        "results": [
            {
                "name": item.name,
                "changed": bool(item.steps),
                "steps": [f"{step.kind} {step.target}: {step.why}" for step in item.steps],
            }
            for item in items
        ],
        key: state,
    }
    if module._diff:
        result["diff"] = [
            {
                "before_header": item.name,
                "after_header": item.name,
                "before": dict(item.before),
                "after": dict(item.after),
            }
            for item in changed
        ]
    return result

"""Every field of a Pod's spec, from Kubernetes' own schema, and what podlab does with it.

The schema is walked, not podlab's table: a field that Kubernetes adds comes out as one that nobody has decided on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from podlab import controller
from podlab.kube import refused, supported

POD_SPEC = "io.k8s.api.core.v1.PodSpec"
# As maps of names to strings or quantities: their keys are the manifest's own.
ANY = "any"


class Row(NamedTuple):
    """One field. decided: somebody has said what becomes of it."""

    path: str
    said: str
    decided: bool


def rows() -> list[Row]:
    """Every field down to where podlab takes any value or none. A kind of container that differs from `containers`
    in some fields has only those."""
    found = list(_rows(POD_SPEC, supported.POD_SPEC, "spec"))
    regular = {row.path.partition("[]")[2]: row.said for row in found if row.path.startswith("spec.containers[]")}
    return [row for row in found if not _same(row, regular)]


def _same(row: Row, regular: Mapping[str, str]) -> bool:
    head, _, tail = row.path.partition("[]")
    return head in ("spec.initContainers", "spec.ephemeralContainers") and regular.get(tail) == row.said


def _rows(name: str, known: Any, path: str) -> Iterator[Row]:
    for field, shape in sorted(controller.definitions()[name]["properties"].items()):
        inner, listed = _reference(shape)
        here = f"{path}.{field}" + ("[]" if listed else "")
        yield from _field(known.get(field), inner, here)


def _field(known: Any, inner: str, here: str) -> Iterator[Row]:
    if isinstance(known, list):
        known = known[0]
    if known is None:
        yield _refused(here)
    elif known is supported.YES:
        yield Row(here, ANY, True)
    elif isinstance(known, supported.Only):
        yield Row(here, _only(here, known), True)
    elif inner and "properties" in controller.definitions()[inner]:
        yield from _rows(inner, known, here)
    else:
        yield from (Row(f"{here}.{key}", ANY, True) for key in known)


def _refused(path: str) -> Row:
    finding = supported._refusal(tuple(path.replace("[]", "").split(".")))
    return Row(path, f"refused: {finding.message}. {finding.remedy}", "yet" not in finding.message)


def _only(path: str, known: Any) -> str:
    values = ", ".join(f"`{yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}`" for value in known.values)
    reason = refused.reason(tuple(path.replace("[]", "").split(".")))
    return f"only {values}" + (f"; else refused: {reason.why}" if reason else "")


def _reference(shape: Mapping[str, Any]) -> tuple[str, bool]:
    """Name of the definition that a field is made of ("" for none), and whether it is a list of them."""
    if "$ref" in shape:
        return shape["$ref"].rpartition("/")[2], False
    if "$ref" in shape.get("items", {}):
        return shape["items"]["$ref"].rpartition("/")[2], True
    for each in shape.get("anyOf", shape.get("oneOf", ())):
        found = _reference(each)
        if found[0]:
            return found
    return "", False

"""`get`: what there is of a lab, of one kind or several."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PodlabError
from ..kube.printers import CLUSTER_WIDE
from . import lab, objects, output


def get(
    words: Sequence[str],
    *,
    name: str = "",
    namespace: str = "",
    all_namespaces: bool = False,
    selector: str = "",
    form: str = "",
    labels: bool = False,
    headers: bool = True,
) -> None:
    """Print objects: words are KIND[,KIND...] [NAME...] or KIND/NAME...

    name: the lab. form: value of -o. labels: a column with the labels. headers: tables with their first line.
    Raises PodlabError for an unknown kind, names that are not there, or an output that is none.
    """
    asked = _asked(words)
    output.split(form)
    wanted = {kind: objects.choice(names, namespace, all_namespaces, selector) for kind, names in asked.items()}
    found = _choose(lab.read(name), wanted)
    if not any(found.values()):
        everywhere = all_namespaces or set(found) <= set(CLUSTER_WIDE)
        where = "" if everywhere else f" in {namespace or objects.DEFAULT_NAMESPACE} namespace"
        print(f"No resources found{where}.", file=sys.stderr)
        # A script that asked for JSON gets a list without items.
        if form in ("", "wide", "name"):
            return
    single = [len(names) for names in asked.values()] == [1]
    show = {"namespaces": all_namespaces, "labels": labels}
    sys.stdout.write(output.render(found, form, single=single, headers=headers, **show))


def _choose(state: Mapping[str, Any], wanted: Mapping[str, objects.Choice]) -> dict[str, list[Mapping[str, Any]]]:
    """The objects that are wanted of each kind. Raises PodlabError with every name that is not there."""
    found, missing = {}, []
    for kind, choice in wanted.items():
        try:
            found[kind] = objects.choose(kind, objects.of_kind(kind, state), choice)
        except PodlabError as error:
            missing.append(error.message)
    if missing:
        raise PodlabError("\n".join(missing))
    return found


def _asked(words: Sequence[str]) -> dict[str, list[str]]:
    """Kind -> names, in the order in which they were typed; no names: all."""
    if not words:
        raise PodlabError(f"get what? One or more of: {', '.join(objects.KINDS)}")
    if "/" not in words[0]:
        return {kind: list(words[1:]) for word in words[0].split(",") for kind in objects.kinds_of(word)}
    asked: dict[str, list[str]] = {}
    for word in words:
        kind, _, name = word.partition("/")
        if not kind or not name or "/" in name:
            raise PodlabError(f"get {' '.join(words)}: {word!r} is not KIND/NAME, as all others have to be then")
        asked.setdefault(objects.kind_of(kind), []).append(name)
    return asked

"""`get`: what there is of a lab, one kind at a time."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..errors import PodlabError
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
) -> None:
    """Print objects of a kind: words are KIND [NAME...] or KIND/NAME...

    name: the lab. form: value of -o. labels: a column with the labels.
    Raises PodlabError for an unknown kind, a name that is not there, or an output that is none.
    """
    kind, names = _what(words)
    output.split(form)
    wanted = objects.choice(names, namespace, all_namespaces, selector)
    found = objects.choose(kind, objects.of_kind(kind, lab.read(name)), wanted)
    if not found:
        where = "" if kind == "nodes" or all_namespaces else f" in {wanted.namespace} namespace"
        print(f"No resources found{where}.", file=sys.stderr)
        # A script that asked for JSON gets a list without items.
        if form in ("", "wide", "name"):
            return
    text = output.render(kind, found, form, single=len(names) == 1, namespaces=all_namespaces, labels=labels)
    sys.stdout.write(text)


def _what(words: Sequence[str]) -> tuple[str, list[str]]:
    if not words:
        raise PodlabError(f"get what? One of: {', '.join(objects.KINDS)}")
    if "/" not in words[0]:
        return objects.kind_of(words[0]), list(words[1:])
    parts = [word.partition("/") for word in words]
    kinds = {objects.kind_of(kind) for kind, _, _ in parts}
    if len(kinds) > 1 or not all(part for _, _, part in parts):
        raise PodlabError(f"get {' '.join(words)}: write KIND/NAME for each, all of one kind")
    return kinds.pop(), [part for _, _, part in parts]

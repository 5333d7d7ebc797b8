"""`tree`: the lab's processes as a tree, each with its pids and the namespaces that its parent is not in."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import PodlabError
from ..linux import cgroup, namespaces, procinfo
from ..runtime import paths
from . import insides, lab, output, pick

FORMS = ("", "json", "yaml")
NARROWEST = 80
SUPERVISOR = "supervisor"


class Node(NamedTuple):
    """A process. inside: its pid in its own PID namespace. own: the types of namespace that its parent is not in."""

    pid: int
    parent: int
    inside: int
    own: tuple[str, ...]
    command: str
    role: str


def tree(words: Sequence[str] = (), *, name: str = "", namespace: str = "", form: str = "") -> None:
    """Print the processes of a lab, or of one pod with its supervisor: as a tree, or with `-o json` and `-o yaml`.

    words: the pod, as pick.pod takes it; none for the whole lab. name: the lab.
    Raises PodlabError when there is no such lab or pod, when it has no processes, or for another form.
    """
    if form not in FORMS:
        raise PodlabError(f"-o {form}: unable to match a printer. Use json or yaml")
    if len(words) > 1:
        raise PodlabError(f"tree: {words[1]!r} is one word too many. Usage: ./lab tree [POD]")
    state = lab.read(name)
    path, what = _subject(state, words[0] if words else "", namespace)
    found = survey(state, path)
    if not found:
        raise PodlabError(f"{what} has no processes now. See ./lab status")
    if form:
        value = {"items": [_nested(each, found) for each in roots(found)]}
        sys.stdout.write((output.as_json if form == "json" else output.as_yaml)(value))
        return
    columns = shutil.get_terminal_size((NARROWEST, 24)).columns if sys.stdout.isatty() else 0
    sys.stdout.write(text(found, columns))


def _subject(state: Mapping[str, Any], word: str, namespace: str) -> tuple[str, str]:
    """The cgroup of what is asked for, and what that is called."""
    if not word:
        return paths.cgroup_root(state["name"]), f"the lab {state['name']}"
    picked = pick.pod(state, word, namespace)
    return insides.placed(state["name"], picked).cgroup, f"pod {picked.name}"


def survey(state: Mapping[str, Any], path: str) -> dict[int, Node]:
    """pid -> every process of the cgroup and below."""
    trees = cgroup.detect().single()
    roles = _roles(state)
    found = {}
    for pid in trees.pids(path) if trees.exists(path) else ():
        status = procinfo.status(pid)
        if not pid or not status:
            continue
        parent = int(status["PPid"])
        own = _own(pid, parent)
        inside = procinfo.numbers(status.get("NSpid", str(pid)))[-1]
        found[pid] = Node(pid, parent, inside, own, " ".join(namespaces.command(pid).split()), roles.get(pid, ""))
    return found


def _own(pid: int, parent: int) -> tuple[str, ...]:
    try:
        mine, its = namespaces.of_process(pid), namespaces.of_process(parent or 1)
    except OSError:
        return ()
    return tuple(kind for kind, inode in mine.items() if its.get(kind) != inode)


def _roles(state: Mapping[str, Any]) -> dict[int, str]:
    """pid -> what the process is to the lab."""
    found = {node["pid"]: f"node {node['name']}" for node in state["nodes"]}
    if state["watcher"].get("pid"):
        found[state["watcher"]["pid"]] = "watcher"
    for item in state["pods"]:
        picked = pick.Picked(item["pod"], item["status"], item["alive"])
        whole = f"{item['pod']['metadata']['namespace']}/{picked.name}"
        found[item["supervisor"]["pid"]] = f"{SUPERVISOR} of {whole}"
        try:
            where = insides.placed(state["name"], picked)
        except PodlabError:
            continue
        found.update({each.pid: f"container {each.name}" for each in where.containers if each.pid})
        found[where.pause.pid] = insides.PAUSE
    return found


def roots(found: Mapping[int, Node]) -> list[Node]:
    """Those whose parents are not among them."""
    return [each for each in found.values() if each.parent not in found]


def children(pid: int, found: Mapping[int, Node]) -> list[Node]:
    """By pid."""
    return [each for each in found.values() if each.parent == pid]


def _nested(node: Node, found: Mapping[int, Node]) -> dict[str, Any]:
    return {
        "pid": node.pid,
        "inside": node.inside,
        "namespaces": list(node.own),
        "role": node.role,
        "command": node.command,
        "children": [_nested(each, found) for each in children(node.pid, found)],
    }


def text(found: Mapping[int, Node], columns: int) -> str:
    """The tree with its columns, its lines cut off after so many columns (0: never)."""
    rows = [row for each in roots(found) for row in _rows(each, found, "", "")]
    head = ("PID", "INSIDE", "OWN NAMESPACES", "PROCESS")
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(3)]
    lines = []
    for row in (head, *rows):
        cells = (row[0].rjust(widths[0]), row[1].rjust(widths[1]), row[2].ljust(widths[2]), row[3])
        line = "  ".join(cells).rstrip()
        lines.append(line[:columns] if columns else line)
    return "\n".join(lines) + "\n"


def _rows(node: Node, found: Mapping[int, Node], lead: str, below: str) -> Iterator[tuple[str, str, str, str]]:
    """The row of the process and those of its children. lead, below: what stands before its name, and theirs."""
    # What a supervisor or pause is called by ps says nothing to a person.
    named = node.role.startswith((SUPERVISOR, "node ", "watcher", insides.PAUSE))
    said = node.role if named else ": ".join(filter(None, (node.role, node.command)))
    yield str(node.pid), str(node.inside), ",".join(node.own), f"{lead}{said}"
    young = children(node.pid, found)
    for each in young:
        last = each is young[-1]
        yield from _rows(each, found, f"{below}{'`- ' if last else '|- '}", f"{below}{'   ' if last else '|  '}")

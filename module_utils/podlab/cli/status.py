"""`status`, and the tables at the end of `up`: nodes, pods and Services of a lab."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PodlabError
from ..kube import printers
from . import lab, objects, output

# Columns of kubectl's wide table that tell nothing in a lab, and one that does when a Service has such an address.
LEFT_OUT = ("NOMINATED NODE", "READINESS GATES")
WHEN_FILLED = "EXTERNAL-IP"
KINDS = ("nodes", "pods", "services")
TITLES = {kind: kind.upper() for kind in (*KINDS, "ports")}

COLOURS = {
    "Running": "green",
    "Ready": "green",
    "Completed": "dim",
    "ContainerCreating": "yellow",
    "Pending": "yellow",
    "PodInitializing": "yellow",
    "NotReady": "yellow",
    "Terminating": "yellow",
}
COLUMN_COLOURED, COLOUR_ELSE = "STATUS", "red"
NO_FOLDING = 1000


def status(name: str = "", form: str = "") -> None:
    """Print a lab's tables, or all of it with `-o json` and `-o yaml`. Raises PodlabError for another format."""
    if form not in ("", "table", "json", "yaml"):
        raise PodlabError(f"-o {form}: unable to match a printer. Use table, json or yaml")
    state = lab.read(name)
    if form in ("", "table"):
        show(state)
    else:
        sys.stdout.write((output.as_json if form == "json" else output.as_yaml)(document(state)))


def document(state: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that `status` knows, as one value: the lab's name, cluster and watcher, and its objects by kind."""
    return {
        "name": state["name"],
        "cluster": state["cluster"],
        "watcher": state["watcher"],
        **{kind: objects.of_kind(kind, state) for kind in objects.KINDS},
    }


def tables(state: Mapping[str, Any], now: float) -> dict[str, list[list[str]]]:
    """Rows with header of each table."""
    found = {}
    for kind in KINDS:
        rows = printers.table(kind, objects.of_kind(kind, state), now, wide=kind == "pods", namespaces=True)
        kept = [place for place, title in enumerate(rows[0]) if title not in LEFT_OUT and _is_told(title, place, rows)]
        found[kind] = [[row[place] for place in kept] for row in rows]
    found["ports"] = ports(state["cluster"])
    return found


def ports(cluster: Mapping[str, Any] | None) -> list[list[str]]:
    """The mapped ports, with header: where the machine listens, and which port of which node that is."""
    rows = [
        [f"{one['listen_address']}:{one['host_port']}", f"{node['name']}:{one['container_port']}/{one['protocol']}"]
        for node in (cluster or {}).get("nodes", ())
        for one in node.get("port_mappings", ())
    ]
    return [["MACHINE", "NODE"], *rows]


def _is_told(title: str, place: int, rows: Sequence[Sequence[str]]) -> bool:
    return title != WHEN_FILLED or any(row[place] != printers.NONE for row in rows[1:])


def show(state: Mapping[str, Any]) -> None:
    """Print the tables: in colour on a terminal, plain everywhere else."""
    found = tables(state, time.time())
    if sys.stdout.isatty():
        _coloured(found)
    else:
        sys.stdout.write(plain(found))
    sys.stdout.write(watcher_line(state["watcher"]))


def watcher_line(watcher: Mapping[str, Any]) -> str:
    """What is wrong with the watcher, as a line below the tables; nothing when it is well."""
    if watcher.get("alive"):
        return f"\nThe watcher could not sync: {watcher['error']}\n" if watcher.get("error") else ""
    why = f" ({watcher['error']})" if watcher.get("error") else ""
    return f"\nThe watcher is not running{why}: Services, DNS and Jobs do not follow pods. Start it: ./lab up\n"


def plain(found: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """The tables one below the other, each under its title."""
    parts = [f"{TITLES[kind]}\n{printers.text(rows)}" for kind, rows in found.items() if len(rows) > 1]
    return "\n".join(parts)


def _coloured(found: Mapping[str, Sequence[Sequence[str]]]) -> None:
    # Slow to load, and only a person needs it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # As wide as the rows are: a terminal that is narrower wraps them at its edge, as it does kubectl's.
    console = Console(width=NO_FOLDING)
    for kind, (header, *rows) in found.items():
        if not rows:
            continue
        table = Table(title=TITLES[kind], title_justify="left", title_style="bold", box=None, pad_edge=False)
        for title in header:
            table.add_column(title, no_wrap=True, header_style="dim")
        for row in rows:
            table.add_row(*(Text(cell, _colour(title, cell)) for title, cell in zip(header, row)))
        console.print(table, end="\n")
        console.print()


def _colour(title: str, cell: str) -> str:
    return COLOURS.get(cell, COLOUR_ELSE) if title == COLUMN_COLOURED else ""

"""What a black-box row is, and how the rows of one container become one script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Facts = dict[str, str]
_MARK = "==== row "


class Row(NamedTuple):
    """One check from inside a container.

    number: of the list of tests that podlab reproduces. source: the test there (R: runc, C: crun, T: runtime-tools,
    V: cri-tools, K: Kubernetes' e2e). script: prints key=value lines. expected: by hand, from Kubernetes' and the OCI's
    documents; None when the script asks for so much that runc alone is the measure. allowed: key -> why runc may say
    something else there. runc: "" when runc runs the script, too; else why it has no part in it. argv: a command that
    is executed instead of the script; its facts are its code and how many lines it wrote to its standard error. naive:
    whether a naive runtime gets it wrong, where that is tried.
    """

    number: int
    source: str
    script: str
    expected: Mapping[str, str] | None
    allowed: Mapping[str, str] = {}
    runc: str = ""
    argv: tuple[str, ...] = ()
    naive: bool = True


class Cell(NamedTuple):
    """One container and the rows that are looked at in it.

    spec: of the container in the manifest, without name, image and command. by: "start" (the rows are the container's
    own command), "exec" (it sleeps, and the rows are executed in it) or "refused" (it must not start).
    code: what it ends with.
    """

    name: str
    rows: Sequence[Row]
    spec: Mapping[str, Any] = {}
    by: str = "start"
    code: int = 0

    @property
    def script(self) -> str:
        """All rows, each in a shell of its own, in one script."""
        parts = []
        for place, row in enumerate(self.rows):
            parts.append(f"echo '{_MARK}{place}'\n(\n{row.script.strip()}\n) 2>&1\n")
        return "".join(parts) + f"exit {self.code}\n"

    def container(self) -> dict[str, Any]:
        """The container of the manifest."""
        command = ["sh", "-c", self.script] if self.by == "start" else ["sleep", "100000"]
        return {"name": self.name, "image": "busybox", "command": command, **self.spec}


class Case(NamedTuple):
    """One pod: its spec besides the containers."""

    name: str
    cells: Sequence[Cell]
    spec: Mapping[str, Any] = {}

    def pod(self) -> dict[str, Any]:
        """The manifest."""
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "labels": {"row": "black-box"}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                **self.spec,
                "containers": [cell.container() for cell in self.cells],
            },
        }


def parse(text: str) -> list[Facts]:
    """The facts of each row, out of what a cell's script printed. What is no key=value is there under "?"."""
    found: list[Facts] = []
    for line in text.splitlines():
        if line.startswith(_MARK):
            found.append({})
        elif found and "=" in line:
            key, _, value = line.partition("=")
            found[-1][key] = value
        elif found:
            found[-1]["?"] = found[-1].get("?", "") + line + "\n"
    return found


def replace_marks(value: Any, marks: Mapping[str, str]) -> Any:
    """The value with every mark of its texts replaced (@HOST@ and so on)."""
    if isinstance(value, str):
        for mark, text in marks.items():
            value = value.replace(mark, text)
        return value
    if isinstance(value, Mapping):
        return {key: replace_marks(each, marks) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [replace_marks(each, marks) for each in value]
    return value

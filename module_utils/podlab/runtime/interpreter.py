"""Another Python process that runs this very package, wherever it is, without being installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterable

from .digest import hexdigest
from .files import write_bytes

_PARTS = ("kube", "linux", "runtime")
_RUN = "import sys; sys.path.insert(0, {root!r}); from {module} import main; main(*{arguments!r})"


def command(module: str, *arguments: str, root: str = "") -> list[str]:
    """The command line that calls main() of a module of this package with these arguments.

    module: its __name__. Who names it so has imported it, so it was shipped too when this package came as a zip.
    root: where the package is; by default where this one is.
    A fresh interpreter has none of what the caller has loaded, and takes nothing from its environment.
    """
    here, package = _own_package()
    root = root or here
    name = package + module[len(_package()) :]
    # Without docstrings and columns of source lines: what stays of a process is smaller.
    return [
        sys.executable,
        "-I",
        "-S",
        "-OO",
        "-X",
        "no_debug_ranges",
        "-c",
        _RUN.format(root=root, module=name, arguments=arguments),
    ]


def keep(path: str) -> str:
    """Where this package stays: a zip that a module brought goes with it, so a copy at path is made, by a rename."""
    root, _ = _own_package()
    if os.path.isdir(root):
        return root
    with open(root, "rb") as file:
        write_bytes(path, file.read())
    return path


def shipped() -> list[str]:
    """Names of this package's modules, without the package's own: all that may ever run here."""
    names = []
    for name in ("", *_PARTS):
        package = importlib.import_module(f"{_package()}.{name}".rstrip("."))
        prefix = f"{name}." if name else ""
        names += [prefix + entry.name for entry in pkgutil.iter_modules(package.__path__) if not entry.ispkg]
    return sorted(names)


def digest(names: Iterable[str]) -> str:
    """A digest of these modules' source as they are now, for one process to tell whether another runs the same code.

    names: as shipped() gives them; one that is not there any more counts as empty.
    """
    return hexdigest("\0".join(_source(f"{_package()}.{name}") for name in names))


def _source(name: str) -> str:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # nor its package
        return ""
    # A file's loader and a zip's have it both.
    read = getattr(spec.loader, "get_source", None) if spec else None
    return str(read(name)) if read else ""


def _package() -> str:
    return __name__.rpartition(".runtime.")[0]


def _own_package() -> tuple[str, str]:
    """(directory or zip to put on sys.path, name of this package there).

    The name is ansible.module_utils.podlab when it was shipped.
    """
    file = os.path.abspath(__file__)
    shipped = f"/{__name__.replace('.', '/')}.py"
    if file.endswith(shipped):
        return file[: -len(shipped)], _package()
    return file[: -len("/podlab/runtime/interpreter.py")], "podlab"

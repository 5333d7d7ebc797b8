"""Another Python process that runs this very package, wherever it is, without being installed."""

from __future__ import annotations

import os
import sys

_RUN = "import sys; sys.path.insert(0, {root!r}); from {package}.{module} import main; main(*{arguments!r})"


def command(module: str, *arguments: str) -> list[str]:
    """The command line that calls main() of a module of this package ("runtime.zygote") with these arguments.

    A fresh interpreter has none of what the caller has loaded, and takes nothing from its environment.
    """
    root, package = _own_package()
    code = _RUN.format(root=root, package=package, module=module, arguments=arguments)
    return [sys.executable, "-I", "-S", "-c", code]


def _own_package() -> tuple[str, str]:
    """(directory or zip to put on sys.path, name of this package there).

    The name is ansible.module_utils.podlab when it was shipped.
    """
    package = __name__.rpartition(".runtime.")[0]
    file = os.path.abspath(__file__)
    shipped = f"/{package.replace('.', '/')}/runtime/interpreter.py"
    if file.endswith(shipped):
        return file[: -len(shipped)], package
    return file[: -len("/podlab/runtime/interpreter.py")], "podlab"

"""A program of this package as an image's: its own files, what it imports, and nothing else of Python.

Which files those are, the machine's Python says itself: it imports the program and tells what it has loaded.
"""

from __future__ import annotations

import os
import pkgutil
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import PodlabError
from ..linux import elf
from . import tree

if TYPE_CHECKING:  # Never imported here, only read: named so that Ansible ships it with the module that builds images.
    from . import dns_server as _dns_server  # noqa: F401

PYTHON = "/usr/bin/python3"
_OURS = "/usr/lib/podlab"
_PACKAGE = __name__.rpartition(".runtime.")[0]
_IMPORT = """
import importlib, sys
sys.path[:0] = sys.argv[2:]
importlib.import_module(sys.argv[1])
for module in list(sys.modules.values()):
    if getattr(module, "__file__", None):
        print(module.__file__)
"""
# Without times in it: the same sources make the same layer.
_COMPILE = """
import py_compile, sys
for path in sys.argv[2:]:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(sys.argv[1] + path, dfile=path, doraise=True, invalidation_mode=mode)
"""


class Program(NamedTuple):
    """module: what is imported and has main(). sources: the files of this package that it needs, with their packages.

    libraries: directories of other modules that it imports; evidence: a file below them, there when they are installed.
    """

    module: str
    sources: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()

    @property
    def launcher(self) -> str:
        """The path of what Python is to run."""
        return f"{_OURS}/{self.module.rpartition('.')[2]}.py"


def source_text(path: str) -> str:
    """A file of this package, also when Ansible has shipped the package as an archive."""
    data = pkgutil.get_data(_PACKAGE, path)
    assert data is not None
    return data.decode()


def put_program(top: str, program: Program, roots: Sequence[str]) -> dict[str, str]:
    """The program and its modules into the tree top. Returns path in the tree -> file it came from.

    roots: where to look for libraries. Raises PodlabError when the machine's Python cannot import the program.
    """
    for path in program.sources:
        tree.put_text(top, f"{_OURS}/podlab/{path}", source_text(path))
    words = [_OURS, *program.libraries]
    text = f"import sys\n\nsys.path[:0] = {words!r}\nfrom {program.module} import main\n\nmain()\n"
    tree.put_text(top, program.launcher, text)
    places = [f"{root.rstrip('/')}{path}" for root in roots for path in program.libraries]
    loaded = _run(_IMPORT, program.module, f"{top}{_OURS}", *places).splitlines()
    placed: dict[str, str] = {}
    for file in loaded:
        if not file.startswith(f"{top}/"):
            placed[_inside(file, roots)] = file
    libraries = [path for path in placed if path.endswith(".so")]
    placed.update(elf.closure(libraries, roots).files)
    for path, source in placed.items():
        tree.put_file(top, path, source, 0o644 if source.endswith((".py", ".so")) else None)
    # Python complains when it cannot find the directory of its libraries, even when it needs none.
    standard = os.path.dirname(next(path for path in placed if path.endswith("/os.py")))
    tree.put_directory(top, f"{standard}/lib-dynload")
    _compile(top, [path for path in placed if path.endswith(".py")], program)
    return placed


def _inside(file: str, roots: Sequence[str]) -> str:
    """The path that a file of one of the roots has inside of it."""
    for root in roots:
        if root != "/" and file.startswith(f"{root}/"):
            return file[len(root) :]
    return file


def _compile(top: str, paths: Sequence[str], program: Program) -> None:
    every = [*paths, *(f"{_OURS}/podlab/{path}" for path in program.sources)]
    for path in every:
        tree.put_directory(top, f"{os.path.dirname(path)}/__pycache__")
    _run(_COMPILE, top, *every)
    for directory in {f"{top}{os.path.dirname(path)}/__pycache__" for path in every}:
        for name in os.listdir(directory):
            os.chmod(f"{directory}/{name}", 0o644)


def _run(code: str, *words: str) -> str:
    argv = [PYTHON, "-I", "-S", "-B", "-c", code, *words]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise PodlabError(f"{PYTHON} cannot import {words[0]}: {reason}. Install the package python3 whole.")
    return done.stdout

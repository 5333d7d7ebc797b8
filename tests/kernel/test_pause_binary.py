"""The pause binary: what it is made of, and what it does as PID 1 of a PID namespace."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from podlab.errors import PodlabError
from podlab.linux import elf
from podlab.runtime import pause, pause_source
from support.waiting import running, until

pytestmark = pytest.mark.kernel
needs_compiler = pytest.mark.skipif(not pause.compiler(), reason="builds pause: needs a C compiler")


@pytest.fixture
def binary(podlab_roots: pathlib.Path) -> str:
    if not pause.compiler():
        pytest.skip("builds pause: needs a C compiler")
    return pause.pause_binary()


def test_it_is_small_static_and_quiet(binary: str, tmp_path: pathlib.Path) -> None:
    headers = elf.read(binary)
    assert headers is not None and (headers.interpreter, headers.needed) == ("", ())
    assert os.path.getsize(binary) < 4096
    assert pathlib.Path(binary).with_name("pause.c").read_text() == pause_source.SOURCE
    done = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True)
    assert done.stdout == f"pause.c {pause_source.VERSION}\n"
    strict = ["-Wall", "-Wextra", "-Werror", "-std=c99"]
    source = str(pathlib.Path(binary).with_name("pause.c"))
    subprocess.run([*pause.compile_command(pause.compiler(), source, f"{tmp_path}/p"), *strict], check=True)


def test_it_is_built_once(binary: str) -> None:
    before = os.stat(binary)
    assert pause.pause_command() == (binary,)
    assert os.stat(binary).st_ino == before.st_ino


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(binary: str, number: signal.Signals) -> None:
    with running([binary], env={}) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "Warning: pause should be the first process\n"
        wait_until_it_sleeps(process.pid)
        process.send_signal(number)
        word = "Terminated" if number == signal.SIGTERM else "Interrupt"
        assert process.stderr.read() == f"Shutting down, got signal: {word}\n"
        assert process.wait(timeout=10) == 0


def test_memory_of_one_more_pause(binary: str) -> None:
    """Beside the page of text that all share, only its stack is its own.

    Without randomised addresses: by chance the stack lies across one page more.
    """
    setarch = shutil.which("setarch")
    assert setarch
    with running([setarch, "-R", binary], env={}) as process:
        wait_until_it_sleeps(process.pid)
        rollup = pathlib.Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        own = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Pss_Anon", "Pss_File")))
    assert own <= 12, rollup


def test_as_pid_1_it_reaps_orphans_and_ends_its_namespace(binary: str) -> None:
    """A process inside makes an orphan that ends at once; no zombie may stay, and TERM from outside still works."""
    with running(["unshare", "-fp", "--kill-child", binary]) as unshare:
        child = first_child(unshare.pid)
        wait_until_it_sleeps(child)
        orphans = 'for n in 1 2 3 4 5; do (sh -c "exit 3" & sh -c "exit 4" &) ; done; true'
        subprocess.run(["nsenter", "-t", str(child), "-p", "sh", "-c", orphans], check=True)
        until(lambda: children(child) == [], "zombies stay")
        os.kill(child, signal.SIGTERM)
        assert unshare.wait(timeout=10) == 0
        assert unshare.stderr is not None
        assert unshare.stderr.read() == "Shutting down, got signal: Terminated\n"


def test_without_a_compiler_catatonit_or_a_clear_error(
    podlab_roots: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(PodlabError, match="Install one of the packages gcc, tcc, catatonit"):
        pause.pause_binary()
    (programs / "catatonit").symlink_to("/bin/true")
    copy, option = pause.pause_command()
    # Alone in its directory, which becomes the root of every pause process.
    assert option == "-P" and os.listdir(os.path.dirname(copy)) == ["pause"]
    assert pathlib.Path(copy).read_bytes() == pathlib.Path("/bin/true").read_bytes() and os.access(copy, os.X_OK)


@needs_compiler
def test_a_broken_compiler_is_named(
    podlab_roots: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    compiler = programs / "cc"
    compiler.write_text("#!/bin/sh\necho 'cc1: out of order' >&2; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(PodlabError, match="cc1: out of order"):
        pause.pause_binary()
    assert not os.path.exists(pause.pause_file())


@pytest.mark.parametrize("compiler", ["clang", "tcc"])
def test_other_compilers_build_it_too(compiler: str, tmp_path: pathlib.Path) -> None:
    program = shutil.which(compiler)
    if program is None:
        pytest.skip(f"needs {compiler}")
    (tmp_path / "pause.c").write_text(pause_source.SOURCE)
    subprocess.run(pause.compile_command(program, f"{tmp_path}/pause.c", f"{tmp_path}/pause"), check=True)
    assert subprocess.run([f"{tmp_path}/pause", "-v"], check=True, capture_output=True).stdout.startswith(b"pause.c")


def wait_until_it_sleeps(pid: int) -> None:
    """Wait for the process to be in ppoll(2), its handlers in place: its system call says so."""
    number = {"x86_64": "271", "aarch64": "73"}[os.uname().machine]
    until(lambda: pathlib.Path(f"/proc/{pid}/syscall").read_text().split()[0] == number, "it does not sleep")


def first_child(pid: int) -> int:
    until(lambda: children(pid) != [], "it has no child")
    return children(pid)[0]


def children(pid: int) -> list[int]:
    return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

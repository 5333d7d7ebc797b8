"""The ELF reader against ldd, and the search order of ld.so on binaries that the test builds."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from podlab.linux import elf

BINARIES = ("/bin/sh", "/bin/ls", "/bin/bash", "/usr/bin/skopeo", "/usr/bin/tar", "/usr/bin/perl")
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="builds small libraries: needs a C compiler")


def ldd(binary: str) -> set[str]:
    """The paths that ldd prints: libraries and loader."""
    done = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True)
    return set(re.findall(r"(/\S+) \(0x", done.stdout))


@pytest.mark.parametrize("binary", BINARIES)
def test_the_closure_is_what_ldd_prints(binary: str) -> None:
    if not os.path.exists(binary):
        pytest.skip(f"needs {binary}")
    found = elf.closure([binary])
    assert set(found.files) == ldd(binary)
    assert not found.missing
    assert all(os.path.isfile(source) and not os.path.islink(source) for source in found.files.values())


def test_several_binaries_share_their_libraries() -> None:
    both = elf.closure(["/bin/sh", "/bin/bash"]).files
    assert both == {**elf.closure(["/bin/sh"]).files, **elf.closure(["/bin/bash"]).files}


def test_what_is_static_or_no_elf_needs_nothing(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert elf.closure([str(script)]) == elf.Closure({}, ())
    assert elf.read(str(script)) is None
    with pytest.raises(FileNotFoundError):
        elf.closure([str(tmp_path / "gone")])


@pytest.mark.parametrize("cut", [4, 16, 40, 63, 64, 100, 500, 2000])
def test_a_damaged_file_is_no_elf(tmp_path: pathlib.Path, cut: int) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(pathlib.Path("/bin/ls").read_bytes()[:cut])
    header = elf.read(str(damaged))
    assert header is None or header.needed == ()


def library(path: pathlib.Path, *flags: str, name: str = "f") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    source.write_text(f"int {name}(void) {{ return 0; }}\n")
    argv = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-o", str(path), str(source), *flags]
    subprocess.run(argv, check=True, capture_output=True)


def program(path: pathlib.Path, *flags: str) -> None:
    source = path.with_suffix(".c")
    source.write_text("int f(void); int main(void) { return f(); }\n")
    subprocess.run(["cc", "-o", str(path), str(source), *flags], check=True, capture_output=True)


@needs_compiler
@pytest.mark.parametrize("tags", ["--enable-new-dtags", "--disable-new-dtags"])
def test_origin_in_rpath_and_runpath(tmp_path: pathlib.Path, tags: str) -> None:
    library(tmp_path / "lib/libpodlabf.so.1")
    program(tmp_path / "prog", str(tmp_path / "lib/libpodlabf.so.1"), f"-Wl,{tags},-rpath,$ORIGIN/lib")
    headers = elf.read(str(tmp_path / "prog"))
    assert headers is not None and ("$ORIGIN/lib",) in (headers.rpath, headers.runpath)
    assert set(elf.closure([str(tmp_path / "prog")]).files) == ldd(str(tmp_path / "prog"))


@needs_compiler
@pytest.mark.parametrize(("tags", "found"), [("--disable-new-dtags", True), ("--enable-new-dtags", False)])
def test_rpath_is_inherited_and_runpath_is_not(tmp_path: pathlib.Path, tags: str, found: bool) -> None:
    library(tmp_path / "lib/libpodlabg.so.1", name="g")
    library(tmp_path / "lib/libpodlabf.so.1", str(tmp_path / "lib/libpodlabg.so.1"), "-Wl,--no-as-needed")
    flags = ("-Wl,--allow-shlib-undefined", f"-Wl,{tags},-rpath,{tmp_path}/lib")
    library(tmp_path / "lib/libpodlabf.so.1", "-Wl,--no-as-needed", str(tmp_path / "lib/libpodlabg.so.1"))
    program(tmp_path / "prog", str(tmp_path / "lib/libpodlabf.so.1"), *flags)
    needs = elf.closure([str(tmp_path / "prog")])
    missing = [name for name, _ in needs.missing]
    shown = subprocess.run(["ldd", str(tmp_path / "prog")], capture_output=True, text=True, check=True).stdout
    assert ("not found" not in shown) is found
    assert missing == ([] if found else ["libpodlabg.so.1"])


def test_a_library_for_another_machine_is_passed_over(tmp_path: pathlib.Path) -> None:
    name = "libc.so.6"
    foreign = bytearray(pathlib.Path(elf.located(f"/lib/x86_64-linux-gnu/{name}", ("/",)) or "/bin/ls").read_bytes())
    foreign[18:20] = b"\x28\x00"
    (tmp_path / "lib64").mkdir()
    (tmp_path / f"lib64/{name}").write_bytes(foreign)
    files = elf.closure(["/bin/ls"], (str(tmp_path), "/")).files
    assert str(tmp_path) not in "".join(files.values())


def test_the_first_root_wins(tmp_path: pathlib.Path) -> None:
    own = elf.closure(["/bin/ls"])
    libc = next(path for path in own.files if path.endswith("/libc.so.6"))
    copy = tmp_path / libc.lstrip("/")
    copy.parent.mkdir(parents=True)
    shutil.copy(libc, copy)
    found = elf.closure(["/bin/ls"], (str(tmp_path), "/")).files
    assert found[libc] == str(copy)


def test_ld_so_conf_and_its_includes_are_searched(tmp_path: pathlib.Path) -> None:
    (tmp_path / "etc/ld.so.conf.d").mkdir(parents=True)
    (tmp_path / "etc/ld.so.conf").write_text("# comment\ninclude ld.so.conf.d/*.conf\n/opt/one/ # why\nhwcap 1 x\n")
    (tmp_path / "etc/ld.so.conf.d/b.conf").write_text("/opt/three\n")
    (tmp_path / "etc/ld.so.conf.d/a.conf").write_text("/opt/two\n\n/opt/one\n")
    assert elf.search_directories((str(tmp_path),)) == ("/opt/two", "/opt/one", "/opt/three")

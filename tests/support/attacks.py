"""Attacks on a container runtime, and two runtimes to try them on: podlab's, and one that must fall for them."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from support import naive, runtime
from support.naive import Refused, Spec
from support.runtime import Ran

SOURCES = {
    # Out of a chroot with nothing but CAP_SYS_CHROOT (chroot(2), NOTES).
    "esc": r"""
#include <unistd.h>
#include <fcntl.h>
#include <sys/stat.h>
int main(void) {
    mkdir("/tmp/d", 0755);
    int f = open("/", O_RDONLY);
    if (chroot("/tmp/d") || fchdir(f)) return 9;
    for (int i = 0; i < 64; i++) if (chdir("..")) return 8;
    if (chroot(".")) return 7;
    execl("/bin/ls", "ls", "/", (char *)0);
    execl("/usr/bin/ls", "ls", "/", (char *)0);
    return 6;
}
""",
    # Types a character into the terminal that it has, for whoever reads from there next.
    "tiocsti": r"""
#include <stdio.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
int main(void) {
    errno = 0;
    ioctl(0, TIOCSTI, "X");
    printf("TIOCSTI: %s\n", strerror(errno));
    return 0;
}
""",
    # Swaps two names for ever.
    "swap": r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <fcntl.h>
int main(int count, char **words) {
    for (;;) if (renameat2(AT_FDCWD, words[1], AT_FDCWD, words[2], RENAME_EXCHANGE)) return 1;
}
""",
    # A chain of directories that is longer than a path may be.
    "deep": r"""
#include <sys/stat.h>
#include <unistd.h>
int main(int count, char **words) {
    if (chdir(words[1])) return 2;
    for (int i = 0; i < 3000; i++) if (mkdir("a", 0755) || chdir("a")) return 1;
    return 0;
}
""",
    # Looks into every process that appears until the file words[1] does: what it runs, what is in its memory, and
    # whether a descriptor of its leads to the machine's file words[2].
    "peek": r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/uio.h>
int main(int count, char **words) {
    char name[64], link[4096], last[8192] = "";
    printf("ready\n"); fflush(stdout);
    while (access(words[1], F_OK)) {
        DIR *all = opendir("/proc"); struct dirent *each;
        while ((each = readdir(all))) {
            int pid = atoi(each->d_name);
            if (pid < 2 || pid == getpid()) continue;
            snprintf(name, sizeof name, "/proc/%d/exe", pid);
            ssize_t got = readlink(name, link, sizeof link - 1);
            if (got < 0) continue;
            link[got] = 0;
            if (strstr(link, "busybox") || strstr(link, "peek")) continue;
            char first[4] = ""; int fd = open(name, O_RDONLY);
            if (fd >= 0) { if (read(fd, first, 4) != 4) first[0] = 0; close(fd); }
            char bytes[8]; unsigned long at; int readable = 0;
            snprintf(name, sizeof name, "/proc/%d/maps", pid);
            FILE *maps = fopen(name, "r");
            if (maps) {
                if (fscanf(maps, "%lx", &at) == 1) {
                    struct iovec here = {bytes, 8}, there = {(void *)at, 8};
                    readable = process_vm_readv(pid, &here, 1, &there, 1, 0) == 8;
                }
                fclose(maps);
            }
            int outside = 0;
            for (int number = 3; number < 32; number++) {
                char path[8192];
                snprintf(path, sizeof path, "/proc/%d/fd/%d%s", pid, number, words[2]);
                outside |= access(path, F_OK) == 0;
            }
            char line[8192];
            sprintf(line, "SEEN exe=%s bytes=%d memory=%d root=%d", link, first[0] == 127, readable, outside);
            if (strcmp(last, line)) { puts(line); fflush(stdout); }
            strcpy(last, line);
        }
        closedir(all);
    }
    printf("done\n");
    return 0;
}
""",
}


def compile_all(directory: pathlib.Path) -> pathlib.Path:
    """The helpers, static, for use inside of containers. Skips the test where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    for name, source in SOURCES.items():
        (directory / f"{name}.c").write_text(source)
        subprocess.run(
            [compiler, "-static", "-O1", "-w", "-o", str(directory / name), str(directory / f"{name}.c")], check=True
        )
    return directory


class Caged:
    """A container of podlab's, with the face of naive.Jail."""

    def __init__(self, pod: runtime.Pod, container: str = "c0") -> None:
        self.pod, self.container = pod, container

    @property
    def first(self) -> int:
        return self.pod.pid(self.container)

    def exec(self, script: str, terminal: bool = False) -> Ran:
        return self.pod.exec("sh", "-c", script, container=self.container)

    def wait(self) -> int:
        return int(self.pod.ended(self.container)["exitCode"])

    def output(self) -> str:
        self.wait()
        return self.pod.log(self.container)

    def termination_message(self) -> str:
        return str(self.pod.ended(self.container).get("message", ""))

    def delete(self) -> None:
        self.pod.delete(0)


class Podlab:
    """podlab's runtime, with the face of naive.Naive."""

    def __init__(self, lab: runtime.Lab) -> None:
        self.lab = lab

    def start(self, spec: Spec) -> Caged:
        made = self._start([spec])
        if made.said:
            raise Refused(made.said)
        return Caged(made)

    def outputs(self, specs: Sequence[Spec]) -> list[str]:
        """What each has written when it has ended, "" of one that could not start: all in one pod."""
        made = self._start(specs)
        return [Caged(made, f"c{number}").output() for number in range(len(specs))]

    def _start(self, specs: Sequence[Spec]) -> runtime.Pod:
        sources = sorted({source for spec in specs for source, _ in spec.mounts})
        volumes = [{"name": f"v{number}", "hostPath": {"path": source}} for number, source in enumerate(sources)]
        pod = self.lab.pod(
            *(_container(spec, sources) for spec in specs),
            restartPolicy="Never",
            volumes=volumes,
            enableServiceLinks=False,
        )
        config = self.lab.config(pod)
        for spec, container in zip(specs, config["containers"]):
            container["layers"] = [*spec.layers, *container["layers"]]
            if spec.user:
                container["user"] = {**container["user"], "uid": None, "name": spec.user}
        return self.lab.start_config(pod, config)


def _container(spec: Spec, sources: list[str]) -> dict[str, Any]:
    mounted = [{"name": f"v{sources.index(source)}", "mountPath": target} for source, target in spec.mounts]
    made = {"command": list(spec.command), "workingDir": spec.cwd, "volumeMounts": mounted}
    return {**made, "resources": {"limits": {"memory": str(spec.memory)}}} if spec.memory else made


Runtime = Any  # Podlab or naive.Naive
Jail = Any  # Caged or naive.Jail
# Says what is broken; "" when nothing is.
Verdict = Callable[[Any], str]


class Both(NamedTuple):
    """The same thing of either runtime."""

    podlab: Any
    naive: Any

    def check(self, verdict: Verdict) -> None:
        """podlab must stand what the naive runtime must fall for: else the check would show nothing."""
        said = verdict(self.podlab)
        assert said == "", said
        assert verdict(self.naive) != "", "the naive runtime passes: this check finds nothing"


@contextmanager
def naive_beside(lab: runtime.Lab) -> Iterator[naive.Naive]:
    """The naive runtime on the lab's machine, with the same busybox."""
    directory = pathlib.Path(os.environ["PODLAB_LIB"]) / "naive"
    made = naive.Naive(directory, lab.images["busybox"]["layers"])
    try:
        yield made
    finally:
        made.close()
        naive.remove(str(directory))

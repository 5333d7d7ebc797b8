"""Rows of what the kubelet writes into a container's cgroup."""

from __future__ import annotations

from typing import Any

from support.blackbox.model import Case, Cell, Row

# The same words for v1 and v2.
READ = """
cd /sys/fs/cgroup
if [ -e cpu.max ]; then
  echo "quota=$(cat cpu.max)"; echo "memory=$(cat memory.max)"; echo "pids=$(cat pids.max)"; echo "shares=untold"
else
  one() { for d in * .; do [ -e $d/$1 ] && cat $d/$1 && break; done; }
  echo "quota=$(one cpu.cfs_quota_us | sed 's/^-1$/max/') $(one cpu.cfs_period_us)"
  echo "memory=$(one memory.limit_in_bytes | sed 's/^922337203685.*/max/')"
  echo "pids=$(one pids.max)"
  echo "shares=$(one cpu.shares)"
fi
echo "oom_score_adj=$(cat /proc/self/oom_score_adj)"
"""
SOURCE = "T linux_cgroups_memory, cpus, pids; R cgroups, pids; C resources_*, limit_pid_*; T process_oom_score_adj"


# Every file of the container's own directories that does not count something. On v2 there is one directory, whose files
# differ from kernel to kernel.
EVERYTHING = """
cd /sys/fs/cgroup
[ -e cgroup.controllers ] && echo v2=yes && exit
counts='procs|tasks|usage|stat|pressure|threads|slabinfo|event|io_service|failcnt|current|peak'
for f in $(find . -type f | grep -vE "^./(unified|systemd)/|$counts" | sort); do
  echo "$f=$(head -c 300 $f 2>/dev/null | tr '\\n' ' ')"
done
"""
# The image's files, and what was made beside them for mounts.
ROOT = """
for f in $(find / -xdev -maxdepth 2 | sort); do echo "$f=$(stat -c '%A %u:%g' $f)"; done
"""
HIERARCHIES = "echo \"seen=$(ls /sys/fs/cgroup | grep -xE 'systemd|unified' | tr '\\n' ' ')\""
WIDE = (
    Row(32, "R cgroups; C resources_*", EVERYTHING, None),
    Row(10, "T root; R rootfs", ROOT, None),
    Row(
        34,
        'R "exec (cgroup v1+hybrid joins correct cgroup)"',
        HIERARCHIES,
        {"seen": "@SEEN@"},
        {"seen": "podlab shows a hybrid's v2 hierarchy; runc 1.1.5 shows systemd's, which podlab leaves alone"},
    ),
)

WIDELY = ("none", "memory")


def limited(name: str, shares: int, quota: str, memory: str, score: str, **resources: Any) -> Cell:
    """A container with these requests and limits."""
    expected = {
        "quota": quota,
        "memory": memory,
        "pids": "max",
        "shares": f"@SHARES {shares}@",
        "oom_score_adj": score,
    }
    return Cell(
        name,
        [Row(32, SOURCE, READ, expected), *(WIDE if name in WIDELY else ())],
        {"resources": resources} if resources else {},
    )


LIMITS = (
    Case(
        "burstable",
        [
            limited("none", 2, "max 100000", "max", "999"),
            limited("cpu", 256, "50000 100000", "max", "999", requests={"cpu": "250m"}, limits={"cpu": "500m"}),
            limited("memory", 2, "max 100000", "67108864", "@SCORE 64Mi@", limits={"memory": "64Mi"}),
            limited("least", 2, "1000 100000", "max", "999", requests={"cpu": "1m"}, limits={"cpu": "1m"}),
            limited("whole", 1024, "max 100000", "max", "999", requests={"cpu": "1"}),
        ],
    ),
    Case(
        "guaranteed",
        [limited("equal", 102, "10000 100000", "33554432", "@SCORE -997@", limits={"cpu": "100m", "memory": "32Mi"})],
    ),
)

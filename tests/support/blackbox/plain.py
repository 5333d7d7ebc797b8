"""Rows that any container can be asked: namespaces, mounts, devices, masks, rights, descriptors."""

from __future__ import annotations

from support.blackbox.model import Case, Cell, Row

# @NS@: the links of the node's namespaces, and of the machine's.
NAMESPACES = """
for n in mnt pid net ipc uts user time; do
  l=$(readlink /proc/self/ns/$n)
  case " @NS@ " in *" $l "*) echo $n=node;; *) echo $n=own;; esac
done
"""
OWN = {"mnt": "own", "pid": "own", "net": "own", "ipc": "own", "uts": "own"}

MOUNTS = """
awk '{ i = index($0, " - "); split(substr($0, i + 3), a, " "); o = ""
  n = split($6, f, ","); for (k = 1; k <= n; k++) if (f[k] ~ /^(ro|rw|nosuid|nodev|noexec)$/) o = o (o ? "," : "") f[k]
  if ($5 ~ /^\\/(proc|dev|dev.pts|dev.mqueue|sys|dev.shm)?$/) print $5 "=" a[1] " " o
  else if ($5 ~ /^\\/(etc.*|dev.termination-log)$/) print $5 "=" o
  if ($5 ~ /^\\/(sys.fs.cgroup|proc|dev|dev.pts|dev.mqueue|sys|dev.shm|etc.*|dev.termination-log)?$/) l = l " " $5
  if ($7 != "-") p = p " " $5 "(" $7 ")"
} END { print "order=" substr(l, 2); print "shared or slave=" p }' /proc/self/mountinfo
"""

MASKS = """
seen=0; bad=; umounted=; rw=
for p in @MASKED@; do
  [ -e $p ] || continue
  seen=1
  if [ -d $p ]; then
    [ -z "$(ls -A $p)" ] || bad="$bad $p"
    touch $p/x 2>&1 | grep -q 'Read-only' || bad="$bad $p"
  else
    [ "$(wc -c < $p) $(stat -c %t:%T $p)" = '0 1:3' ] || bad="$bad $p"
  fi
  umount $p 2>/dev/null && umounted="$umounted $p"
done
for p in @READONLY@; do
  [ -e $p ] || continue
  chmod $(stat -c %a $p) $p 2>&1 | grep -q 'Read-only' || rw="$rw $p"
  mount -o remount,rw $p 2>/dev/null && rw="$rw $p"
done
echo "some=$seen"
echo "badly masked=$bad"
echo "masks taken off=$umounted"
echo "writable=$rw"
echo "mounted twice=$(cut -d' ' -f5 /proc/self/mountinfo | sort | uniq -d | tr '\\n' ' ')"
"""

DEVICES = """
cd /dev
for n in null zero full random urandom tty; do echo "$n=$(stat -c '%F %t:%T %a %u:%g' $n)"; done
for n in ptmx fd stdin stdout stderr; do echo "$n=$(readlink $n)"; done
echo "others=$(ls | grep -vE '^(null|zero|full|random|urandom|tty|ptmx|fd|std(in|out|err)|core)$' | tr '\\n' ' ')"
echo "terminals=$(ls pts | tr '\\n' ' ')"
"""
DEVICE = "character special file"
STANDARD = {
    "null": f"{DEVICE} 1:3 666 0:0",
    "zero": f"{DEVICE} 1:5 666 0:0",
    "full": f"{DEVICE} 1:7 666 0:0",
    "random": f"{DEVICE} 1:8 666 0:0",
    "urandom": f"{DEVICE} 1:9 666 0:0",
    "tty": f"{DEVICE} 5:0 666 0:0",
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "others": "mqueue pts shm termination-log ",
    "terminals": "ptmx ",
}

# What a process may do, by proc(5).
RIGHTS = """
for f in CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Uid Gid Groups Umask SigBlk SigIgn; do
  echo "$f=$(grep "^$f:" /proc/self/status | cut -f2- | tr '\\t' ' ' | sed 's/ *$//')"
done
"""
NONE = "0" * 16
DEFAULT = "00000000a80425fb"
AS_ROOT = {
    "CapInh": NONE,
    "CapPrm": DEFAULT,
    "CapEff": DEFAULT,
    "CapBnd": DEFAULT,
    "CapAmb": NONE,
    "NoNewPrivs": "0",
    "Seccomp": "0",
    "Uid": "0 0 0 0",
    "Gid": "0 0 0 0",
    "Groups": "0",
    "Umask": "0022",
    "SigBlk": NONE,
    "SigIgn": NONE,
}

CGROUP = """
hide() { sed -E 's/pod[0-9a-f-]{36}/podUID/; s/[0-9a-f]{64}/ID/'; }
echo "every controller=$(grep -v :name= /proc/self/cgroup | cut -d: -f3 | hide | sort -u | tr '\n' ' ')"
echo "systemd=$(grep :name=systemd: /proc/self/cgroup | cut -d: -f3 | hide)"
"""

# What else proc(5) tells of a process, of its network and of what sysctls say without being asked.
FACTS = """
for f in TracerPid SigPnd; do
  echo "$f=$(grep "^$f:" /proc/1/status | cut -f2)"
done
echo "owner=$(stat -c %u:%g /proc/1/status)"
echo "scheduler=$(awk '{ print $41, $40, $18 }' /proc/1/stat)"
echo "loopback=$(ip -o link show lo | sed 's/.*<//; s/>.*//')"
echo "its address=$(ip -o -4 addr show lo | awk '{ print $4 }')"
cd /proc/sys
for f in net/ipv4/ping_group_range net/ipv4/ip_unprivileged_port_start; do echo "$f=$(cat $f | tr '\\t' ' ')"; done
"""

# Limits are the daemon's: nothing in a manifest sets them, so who starts what comes first.
STATE = """
set -- $(sed 's/.*) //' /proc/1/stat)
echo "session=$4"
echo "terminal=$5"
echo "nice=${17}"
echo "oom_score_adj=$(cat /proc/self/oom_score_adj)"
echo "personality=$(cat /proc/self/personality)"
echo "keys=$(wc -l < /proc/keys)"
"""

DESCRIPTORS = """
for p in 1 self; do
  echo "$p=$(ls /proc/$p/fd | grep -E '^(0|1|2|[4-9]|[1-9][0-9]+)$' | tr '\\n' ' ')"
done
echo "input=$(readlink /proc/1/fd/0)"
echo "output=$(readlink /proc/1/fd/1 | cut -d: -f1)"
echo "errors=$(readlink /proc/1/fd/2 | cut -d: -f1)"
"""

ESCAPES = """
try() { if "$@" >/dev/null 2>&1; then echo "$*=done"; else echo "$*=refused"; fi; }
try hostname $(hostname)
try mount -t tmpfs tmpfs /tmp
try mount -t cgroup -o memory x /tmp
try mount -t proc proc /tmp
if unshare -mrpf mount -t proc proc /tmp 2>/dev/null; then echo 'bare proc=mounted'; else echo 'bare proc=refused'; fi
if unshare -mr true 2>/dev/null; then echo 'user namespace=made'; else echo 'user namespace=refused'; fi
mask=/proc/keys; [ -e $mask ] || mask=/proc/kcore
echo "mask, by its own root=$(unshare -mr umount $mask 2>&1 | sed 's/.*: //')"
f=$(ls -d /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs 2>/dev/null | head -1)
sh -c "echo 0 > $f" 2>&1 | sed 's/.*: /cgroup=/'
"""

DEVICE_CGROUP = """
mknod /tmp/b b 7 0 && mknod /tmp/c c 1 1 && echo made=yes
head -c1 /tmp/c 2>&1 | sed 's/.*: /read=/'
head -c1 /tmp/b 2>&1 | sed 's/.*: /block=/'
echo "zero=$(head -c4 /dev/zero | wc -c)"
echo x > /dev/null && echo null=written
mkdir -p /tmp/d && mknod /tmp/d/null c 1 3 && echo x > /tmp/d/null && echo 'a null of my own=written'
"""

NAMES = """
echo "hostname=$(hostname)"
echo "HOSTNAME=$HOSTNAME"
echo "file=$(cat /etc/hostname)"
echo "domain=$(cat /proc/sys/kernel/domainname)"
"""

MODES = """
for p in / /proc /dev /dev/pts /dev/shm /dev/mqueue /tmp /made /made/by /made/by/me /etc/hosts /dev/termination-log; do
  echo "$p=$(stat -c '%a %u:%g' $p)"
done
"""

CGROUP_FILES = """
echo "hierarchies that can be written=$(grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d' ' -f6 | grep -vc '^ro,')"
n=$(find /sys/fs/cgroup -mindepth 2 -type d | wc -l); echo "cgroups of others=$n"
mkdir /sys/fs/cgroup/x 2>&1 | sed 's/.*: /top=/'; rmdir /sys/fs/cgroup/x 2>/dev/null
"""

LINKS = """
for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n > /made/by/me/$n; done
touch /made/by/me/done
echo links=told
"""
JOINED = """
for i in $(seq 600); do [ -e /made/by/me/done ] && break; sleep 0.1; done
for n in net ipc uts pid mnt; do
  [ "$(cat /made/by/me/$n)" = "$(readlink /proc/self/ns/$n)" ] && echo $n=shared || echo $n=apart
done
"""
# Variables of a process, one a line: busybox's tr knows no NUL.
VARIABLES = """
variables() { xargs -0 -n 1 sh -c 'printf %s "$0" | tr "\\n" _; echo' < $1; }
"""
ENVIRONMENT = (
    VARIABLES
    + """
echo "names=$(variables /proc/self/environ | cut -d= -f1 | sort | grep -vE '^(SHLVL|PWD|OLDPWD|_)$' | tr '\\n' ' ')"
echo "HOME=$HOME"
echo "cwd=$(pwd)"
"""
)

# What is the same however one comes in.
HERE = (
    Row(2, "T linux_ns_nopath; V ContainerPID", NAMESPACES, {**OWN, "user": "node", "time": "node"}),
    Row(
        16,
        "R mask; C masked_dir_nlink; T linux_masked_paths, linux_readonly_paths; V MaskedPaths, ReadonlyPaths",
        MASKS,
        {"some": "1", "badly masked": "", "masks taken off": "", "writable": "", "mounted twice": ""},
    ),
    Row(
        20,
        'R dev "device cgroup deny / allow rw char"; C deny_devices; T linux_cgroups_devices',
        DEVICE_CGROUP,
        {
            "made": "yes",
            "read": "@DENIED@",
            "block": "@DENIED@",
            "zero": "4",
            "null": "written",
            "a null of my own": "written",
        },
    ),
    Row(22, "R capabilities; C test_capabilities; T process_capabilities", RIGHTS, AS_ROOT),
    Row(
        35,
        'R exec "(cgroup v1+hybrid joins correct cgroup)"; R "init changes cgroup"',
        CGROUP,
        {"every controller": "@CGROUP@ ", "systemd": "@SYSTEMD@"},
        {"systemd": "podlab leaves the hierarchy name=systemd, which has no controller, to systemd"},
    ),
    Row(
        43,
        "R env; C hook_env_no_inherit",
        ENVIRONMENT,
        {"names": "HOME HOSTNAME PATH ", "HOME": "/root", "cwd": "/"},
    ),
    Row(
        51,
        "R umask, personality; T misc_props, process_oom_score_adj",
        STATE,
        {"session": "1", "terminal": "0", "nice": "0", "oom_score_adj": "1000", "personality": "00000000", "keys": "0"},
    ),
    Row(
        51,
        "T misc_props; R personality",
        FACTS,
        {
            "TracerPid": "0",
            "SigPnd": NONE,
            "owner": "0:0",
            "scheduler": "0 0 20",
            "loopback": "LOOPBACK,UP,LOWER_UP",
            "its address": "127.0.0.1/8",
            "net/ipv4/ping_group_range": "0 2147483647",
            "net/ipv4/ip_unprivileged_port_start": "0",
        },
    ),
    Row(
        38,
        'R create "detect fd leak as comprehensively as possible"; C preserve_fds_0',
        DESCRIPTORS,
        {"1": "0 1 2 ", "self": "0 1 2 ", "input": "/dev/null", "output": "pipe", "errors": "pipe"},
    ),
    # Last: under a runtime that lets it mount, it does.
    Row(
        17,
        'R no_pivot "must not expose bare /proc"',
        ESCAPES,
        {
            "hostname plain": "refused",
            "mount -t tmpfs tmpfs /tmp": "refused",
            "mount -t cgroup -o memory x /tmp": "refused",
            "mount -t proc proc /tmp": "refused",
            "bare proc": "refused",
            "user namespace": "@USERNS@",
            "mask, by its own root": "@LOCKED@",
            "cgroup": "Read-only file system",
        },
    ),
)

BEGUN = (
    Row(
        6,
        'K "isolated PID namespaces should all receive PID 1"',
        'echo "first=$(cat /proc/1/comm)"; echo "others=$(ls -d /proc/[0-9]* | grep -cE "^/proc/[0-9]{4,}")"',
        {"first": "sh", "others": "0"},
    ),
    Row(
        9,
        'T hostname; R "hostname domainname"; V "set hostname"',
        NAMES,
        {"hostname": "plain", "HOSTNAME": "plain", "file": "plain", "domain": "(none)"},
    ),
    Row(
        10,
        'T mounts; R "mount order, container bind-mount source"; K /etc/hosts',
        MOUNTS,
        {
            "/": "overlay rw",
            "/proc": "proc rw,nosuid,nodev,noexec",
            "/dev": "tmpfs rw,nosuid",
            "/dev/pts": "devpts rw,nosuid,noexec",
            "/dev/mqueue": "mqueue rw,nosuid,nodev,noexec",
            "/sys": "sysfs ro,nosuid,nodev,noexec",
            "/dev/shm": "tmpfs rw,nosuid,nodev,noexec",
            "/etc/hosts": "rw",
            "/etc/hostname": "rw",
            "/etc/resolv.conf": "rw",
            "/dev/termination-log": "rw",
            "order": "/ /proc /dev /dev/pts /dev/mqueue /sys /sys/fs/cgroup /etc/hosts /dev/termination-log "
            "/etc/hostname /etc/resolv.conf /dev/shm",
            "shared or slave": "",
        },
        {"shared or slave": "runc leaves its root and cgroups slaves of the node's mounts; podlab cuts every tie"},
    ),
    Row(
        15,
        'R tmpfs "mode= inherit / 1777 default", "mkdirall"',
        MODES,
        {
            "/": "755 0:0",
            "/proc": "555 0:0",
            "/dev": "755 0:0",
            "/dev/pts": "755 0:0",
            "/dev/shm": "1777 0:0",
            "/dev/mqueue": "1777 0:0",
            "/tmp": "1777 0:0",
            "/made": "755 0:0",
            "/made/by": "755 0:0",
            "/made/by/me": "777 0:0",
            "/etc/hosts": "644 0:0",
            "/dev/termination-log": "666 0:0",
        },
    ),
    Row(
        19,
        "T linux_devices, default devices and symlinks; C create_or_bind_mount_device, mode_device, owner_device",
        DEVICES,
        STANDARD,
    ),
    Row(
        34,
        'R "ro /sys/fs/cgroup mounts", "cgroupv2 mount inside container"',
        CGROUP_FILES,
        {"hierarchies that can be written": "0", "cgroups of others": "0", "top": "Read-only file system"},
        {"top": "runc 1.1.5 leaves the tmpfs above the directories of cgroup v1 writable"},
    ),
    Row(3, "T linux_ns_path; C namespace_path_sharing", LINKS, {"links": "told"}, naive=False),
    *HERE,
)

SHARE = {"volumeMounts": [{"name": "share", "mountPath": "/made/by/me"}]}
PLAIN = Case(
    "plain",
    [
        Cell("begun", BEGUN, SHARE),
        Cell(
            "second",
            [
                Row(
                    3,
                    'T linux_ns_path; C namespace_path_sharing; R "joining existing container namespaces"',
                    JOINED,
                    {"net": "shared", "ipc": "shared", "uts": "shared", "pid": "apart", "mnt": "apart"},
                )
            ],
            SHARE,
        ),
        Cell("entered", HERE, by="exec"),
        Cell(
            "code",
            [Row(1, 'T default; R run "runc run"', 'echo "$0=$1,$2"', {"zero": "one two,", "code": "7"})],
            {"args": ["zero", "one two", ""]},
            code=7,
        ),
    ],
    {"volumes": [{"name": "share", "emptyDir": {}}]},
)

# The cells that are tried under the naive runtime, by how one comes in.
NAIVE = {"start": PLAIN.cells[0], "exec": PLAIN.cells[2]}

"""Texts of /proc and of kernel configurations, as found on machines."""

from __future__ import annotations

import pytest

from podlab.linux import kernelconfig, procfs, swap

MEMINFO = "MemTotal:       24683512 kB\nMemFree:        100 kB\n"
CGROUPS = """#subsys_name\thierarchy\tnum_cgroups\tenabled
cpuset\t3\t1\t1
memory\t0\t15\t1
net_cls\t0\t1\t0
"""
TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19 1 0 100 0 0 10 0
   1: 0100007F:0016 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 20 1 0 100 0 0 10 0
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000000000000:280A 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0 0 0 0
"""
SWAPS = """Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/sda2                               partition\t1679356\t\t600\t\t-2
/srv/swap\\040file                      file\t\t1024\t\t0\t\t-3
"""
STATUS = "Name:\tpython\nCapEff:\t000001fffeffffff\nCapBnd:\t000001ffffffffff\nSeccomp:\t0\n"


def test_memory() -> None:
    assert procfs.memory_mb(MEMINFO) == 24104
    assert procfs.memory_mb("") == 0


def test_filesystems() -> None:
    assert procfs.filesystems("nodev\tsysfs\n\text4\nnodev\toverlay\n\n") == {"sysfs", "ext4", "overlay"}


def test_cgroup_subsystems_enabled_with_their_hierarchy() -> None:
    assert procfs.cgroup_subsystems(CGROUPS) == {"cpuset": 3, "memory": 0}


def test_listening_ports_of_both_families_and_nothing_else() -> None:
    assert procfs.listening_ports([TCP, TCP6, ""]) == {6443, 10250}


def test_masks_of_status() -> None:
    assert procfs.status_mask(STATUS, "CapEff") == 0x1FFFEFFFFFF
    assert procfs.status_mask(STATUS, "CapPrm") == 0


def test_swap_areas() -> None:
    assert swap.parse(SWAPS) == ("/dev/sda2", "/srv/swap file")
    assert swap.parse(SWAPS.splitlines()[0]) == ()
    assert swap.parse("") == ()


def test_kernel_options_that_are_set() -> None:
    text = 'CONFIG_VETH=m\n# CONFIG_DUMMY is not set\nCONFIG_NET_NS=y\nCONFIG_HZ=250\nCONFIG_LSM="yama"\n'
    assert kernelconfig.parse(text) == {"VETH": "m", "NET_NS": "y"}


@pytest.mark.parametrize("packed", [True, False])
def test_first_readable_configuration_wins(
    packed: bool, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip

    directory = tmp_path_factory.mktemp("kernel")
    monkeypatch.setattr(kernelconfig, "PATHS", (f"{directory}/config.gz", str(directory) + "/config-{release}"))
    (directory / "config-6.1").write_text("CONFIG_VETH=m\n")
    if packed:
        (directory / "config.gz").write_bytes(gzip.compress(b"CONFIG_VETH=y\n"))
    name = "config.gz" if packed else "config-6.1"
    assert kernelconfig.find("6.1") == (f"{directory}/{name}", {"VETH": "y" if packed else "m"})
    assert (kernelconfig.find("6.2") is None) is not packed

"""The security table: every class of escape that runtimes have had, what podlab does about it, and the tests of it."""

from __future__ import annotations

from typing import NamedTuple

K = "tests/kernel/test_security_"
INSIDE, START, NODE, TEXT = f"{K}inside.py", f"{K}start.py", f"{K}node.py", f"{K}text.py"


class Row(NamedTuple):
    """One class. tests: path::function; those named test_row_NN are run against the naive runtime as well."""

    number: int
    what: str
    how: str
    tests: tuple[str, ...]


ROWS = (
    Row(
        1,
        "descriptors of the machine in a container (CVE-2024-21626, CVE-2016-9962)",
        "`close_range` right before each execve, of start and exec alike; only 0, 1 and 2 are left",
        (f"{INSIDE}::test_row_01_leaked_descriptors",),
    ),
    Row(
        2,
        "a working directory in a leaked descriptor (CVE-2024-21626)",
        "after chdir, getcwd(2) must be inside the root",
        (f"{START}::test_row_02_working_directory_in_a_descriptor",),
    ),
    Row(
        3,
        "chroot instead of pivot_root",
        "pivot_root, and the old root detached",
        (f"{INSIDE}::test_row_03_chroot",),
    ),
    Row(
        4,
        "the same, by nsenter",
        "the mount namespace's root is the container's",
        (f"{INSIDE}::test_row_04_chroot_by_namespace",),
    ),
    Row(
        5,
        "the same, without privileges",
        "user namespaces can be made, as the kernel refuses in a chroot",
        (f"{INSIDE}::test_row_05_user_namespace",),
    ),
    Row(
        6,
        "an old root that can still be reached",
        "detached; pause has a read-only root with nothing but itself",
        (
            f"{INSIDE}::test_row_06_old_root",
            "tests/kernel/test_sandbox.py::test_its_root_is_read_only_and_holds_itself_alone",
        ),
    ),
    Row(
        7,
        "the helper's binary through `/proc/PID/exe` (CVE-2019-5736)",
        "the helper is not dumpable, so that only CAP_SYS_PTRACE shows it; see below",
        (f"{INSIDE}::test_row_07_helper_binary",),
    ),
    Row(
        8,
        "code of the image loaded with privilege (CVE-2019-14271)",
        "everything is imported before; passwd and group are read as text, at most 1 MiB, through no link and no FIFO",
        (f"{START}::test_row_08_code_of_the_image",),
    ),
    Row(
        9,
        "theft from who joins a container (CVE-2016-9962)",
        "capabilities, user and descriptors are given up before it enters the container's PID namespace",
        (f"{INSIDE}::test_row_09_theft_from_the_helper",),
    ),
    Row(
        10,
        "exec weaker than start (CVE-2022-29162)",
        "one code for both; same cgroup, namespaces, filter and limits",
        (
            f"{INSIDE}::test_row_10_exec_is_as_start",
            "tests/kernel/test_privileges.py::test_exec_is_as_start",
            "tests/kernel/test_privileges.py::test_a_probe_is_as_start",
        ),
    ),
    Row(
        11,
        "links of an image that lead to the machine (CVE-2024-45310)",
        "resolved beneath a descriptor of the root (`openat2`); `/proc`, `/sys` and `/dev` must be no links",
        (
            f"{START}::test_row_11_links_of_an_image",
            "tests/kernel/test_container_start.py::test_an_image_with_links_for_mount_points",
        ),
    ),
    Row(
        12,
        "a mount point that is swapped meanwhile (CVE-2021-30465)",
        "a mount goes to a descriptor that was opened inside of the root, its options to the mount's own descriptor",
        (
            f"{START}::test_row_12_swapped_mount_point",
            f"{START}::test_row_12_what_is_mounted_is_what_is_made_read_only",
        ),
    ),
    Row(
        13,
        "masks that are something else (CVE-2025-31133)",
        "the machine's null device, opened before the image is touched, its numbers checked",
        (
            f"{START}::test_row_13_masks_are_the_null_device",
            "tests/unit/test_rootmounts.py::test_masks_come_from_the_null_device_only",
        ),
    ),
    Row(
        14,
        "terminals of the machine (CVE-2025-52565)",
        "a `/dev/pts` of the container's own; the console is opened by descriptor",
        (
            f"{INSIDE}::test_row_14_terminals",
            "tests/kernel/test_attach.py::test_row_14_a_volume_at_dev_pts_does_not_lead_astray",
        ),
    ),
    Row(
        15,
        "volumes over `/proc` (CVE-2019-16884, CVE-2025-52881)",
        "refused by name, and by the kind of file system where a link leads there",
        (f"{START}::test_row_15_mounts_over_proc",),
    ),
    Row(
        16,
        "masks that can be taken away",
        "Kubernetes' masked and read-only paths, mounts of the machine's namespace",
        (f"{INSIDE}::test_row_16_masks_stay",),
    ),
    Row(
        17,
        "devices of the machine (CVE-2021-3101)",
        "v1: the devices cgroup; v2: a program of eBPF; neither: all that can be written is `nodev`",
        (
            f"{INSIDE}::test_row_17_devices",
            "tests/kernel/test_device_filter.py::test_the_list_of_a_container",
        ),
    ),
    Row(
        18,
        "cgroups (CVE-2022-0492)",
        "read-only; no capability to mount another",
        (f"{INSIDE}::test_row_18_cgroup_escape",),
    ),
    Row(
        19,
        "mounts that reach the machine",
        "the container's mounts are slaves, its volumes private",
        (f"{INSIDE}::test_row_19_propagation_to_the_machine",),
    ),
    Row(
        20,
        "mounts of the machine in a pod",
        "`mountPropagation` as Kubernetes has it",
        (f"{NODE}::test_row_20_mounts_of_the_machine",),
    ),
    Row(
        21,
        "maps of users that overlap or hold root",
        "`hostUsers: false` gives 65536 IDs that no other pod of the machine has, remembered",
        (
            f"{NODE}::test_row_21_maps_of_users",
            "tests/kernel/test_user_namespace.py::test_ranges_are_disjoint_and_not_the_machines",
        ),
    ),
    Row(
        22,
        "numbers of users that become root (CVE-2024-40635)",
        "31 bits, decimal; names by the image's passwd, each time alike",
        (f"{START}::test_row_22_users", "tests/kernel/test_privileged.py::test_the_second_run_has_the_same_user"),
    ),
    Row(
        23,
        "text of a manifest as code (CVE-2022-0811)",
        "it is data: plain YAML, never templated, never in a shell, names checked as Kubernetes does",
        (
            f"{TEXT}::test_row_23_text_of_a_manifest",
            "tests/unit/test_action_manifests.py::test_a_virgin_machine_in_check_mode_and_text_stays_literal",
        ),
    ),
    Row(24, "options of the overlay in the name of a layer", "escaped", (f"{START}::test_row_24_overlay_options",)),
    Row(
        25,
        "deletion of the machine's files (CVE-2024-23652)",
        "the kernel keeps it from crossing a mount (`RESOLVE_NO_XDEV`); no recursion that a deep tree ends",
        (
            f"{NODE}::test_row_25_what_is_mounted_in_a_volume",
            f"{NODE}::test_row_25_what_a_crash_has_left",
            f"{NODE}::test_row_25_a_chain_of_directories_without_end",
            "tests/kernel/test_lab_removal.py::test_a_directory_with_a_mount_below_it_stays",
        ),
    ),
    Row(
        26,
        "links in volumes (CVE-2017-1002101, CVE-2025-9566)",
        "followed inside of the container's root only, a sub-path's inside of its volume",
        (
            f"{START}::test_row_26_links_in_volumes",
            f"{START}::test_row_26_sub_paths",
            f"{START}::test_row_26_swapped_sub_path",
        ),
    ),
    Row(
        27,
        "files of a container that the runtime reads (CVE-2024-9676)",
        "regular files only, through no link, without waiting, 4 KiB of a termination log",
        (f"{START}::test_row_27_termination_log", f"{START}::test_row_27_passwd"),
    ),
    Row(
        28,
        "layers that unpack outside (CVE-2025-47290)",
        "every name is resolved inside of the directory, or refused; no devices, no foreign attributes; digests count",
        (
            f"{TEXT}::test_row_28_layers",
            f"{TEXT}::test_row_28_whiteouts_count",
            "tests/kernel/test_registry_pull.py::test_a_hostile_layer_leaves_nothing",
            "tests/kernel/test_registry_pull.py::test_a_pulled_image_is_the_image",
            "tests/kernel/test_registry_pull.py::test_what_does_not_match_its_digest_does_not_count",
        ),
    ),
    Row(
        29,
        "an image's configuration that steers the machine (CVE-2026-53488)",
        "seven keys are kept and checked; labels, volumes, health checks and the rest are not read",
        (f"{TEXT}::test_row_29_configuration_of_an_image",),
    ),
    Row(
        30,
        "what a container types into the caller's terminal",
        "a terminal and a session of its own",
        (f"{INSIDE}::test_row_30_terminal_injection",),
    ),
    Row(
        31,
        "abstract sockets (CVE-2020-15257)",
        "pods have a network of their own; podlab has no abstract socket, for pods with `hostNetwork`",
        (f"{INSIDE}::test_row_31_abstract_sockets",),
    ),
    Row(
        32,
        "modes of directories (CVE-2021-41103)",
        "state, layers, volumes, logs and images are root's alone",
        (f"{NODE}::test_row_32_modes", "tests/kernel/test_sandbox.py::test_state_is_for_root_only"),
    ),
    Row(
        33,
        "services of a machine's 127.0.0.1 (CVE-2020-8558)",
        "`route_localnet` on the uplink only, whose packets to and from 127.0.0.0/8 are dropped but for answers",
        ("tests/lab/test_gateway.py::test_nodes_do_not_reach_the_machines_loopback",),
    ),
    Row(
        34,
        "forged routers and addresses (CVE-2020-10749)",
        "router advertisements are not believed on either end of a pod's link; each link has a route of its own",
        (f"{NODE}::test_row_34_routers", f"{NODE}::test_row_34_the_address_of_another_pod"),
    ),
    Row(35, "keys of root's session", "a session keyring of the container's own", (f"{INSIDE}::test_row_35_keys",)),
    Row(
        36,
        "exhaustion",
        "memory and `/dev/shm` have limits; logs, and what a probe says, are cut; processes have no limit: see below",
        (
            f"{START}::test_row_36_memory",
            f"{START}::test_row_36_shared_memory",
            f"{NODE}::test_row_36_output_without_end",
            "tests/kernel/test_exec.py::test_nothing_is_left_of_it",
            "tests/kernel/test_supervisor.py::test_output_without_newlines_is_split",
        ),
    ),
    Row(
        37,
        "numbers of processes used again",
        "known by pid and start time, signalled by pidfd; what exec joins must be in the container's cgroup",
        (
            f"{NODE}::test_row_37_numbers_used_again",
            "tests/unit/test_connection_plugin.py::test_a_pid_that_was_used_again_is_not_the_node",
        ),
    ),
    Row(38, "leftovers", "nothing of a pod is left", (f"{NODE}::test_row_38_leftovers",)),
)


def rows() -> list[tuple[str, ...]]:
    """The table of docs/security.md."""

    def link(test: str) -> str:
        path, _, name = test.partition("::")
        return f"[`{name}`](../{path})"

    return [(str(row.number), row.what, row.how, ", ".join(map(link, row.tests))) for row in ROWS]

"""Rows 1 to 63 of the list of upstream tests: what each asks, and what answers it here."""

from __future__ import annotations

from typing import NamedTuple

from support.blackbox.cases import CASES
from support.blackbox.model import Row
from support.blackbox.plain import NAIVE


class Line(NamedTuple):
    """A row of the list. tests: others than the black-box rows, as path::name. note: what is left out, and why."""

    what: str
    tests: tuple[str, ...] = ()
    note: str = ""


K, L, U = "tests/kernel/", "tests/lab/", "tests/unit/"
LINES: dict[int, Line] = {
    1: Line("it starts, runs its arguments, returns its exit code"),
    2: Line("every namespace that is asked for is its own"),
    3: Line("containers of a pod share net, ipc and uts"),
    4: Line("a path of the wrong kind of namespace", note="no field of a manifest names a namespace by a path"),
    5: Line("what is not asked for is inherited", note="the user and time namespaces in the rows of 2"),
    6: Line("every container has a PID 1"),
    7: Line("shareProcessNamespace: containers see each other, pause is PID 1"),
    8: Line("hostNetwork, hostPID, hostIPC, privileged", (f"{K}test_host_namespaces.py::test_1_1_namespaces",)),
    9: Line("hostname, and its cut at 63 characters", (f"{U}test_pod_namespaces.py::test_1_8_hostname",)),
    10: Line("mounts, their order and options", (f"{L}test_inside.py::test_hosts_file_byte_for_byte",)),
    11: Line("read-only and other options of mounts, enforced"),
    12: Line("readOnly leaves mounts below writable, recursiveReadOnly does not", note="the former in a row of 11"),
    13: Line(
        "links in the way of a mount lead nowhere",
        (f"{K}test_security_start.py::test_row_11_links_of_an_image",),
    ),
    14: Line(
        "/proc, /sys or /dev of the image as links",
        (f"{K}test_container_start.py::test_an_image_with_links_for_mount_points",),
        "podlab's image store, so not for runc",
    ),
    15: Line("modes of what is made for mounts", note="tmpcopyup: containerd's CRI does not use it"),
    16: Line("masked and read-only paths", (f"{K}test_security_inside.py::test_row_16_masks_stay",)),
    17: Line("no bare /proc can be mounted"),
    18: Line(
        "propagation of mounts, both ways",
        (
            f"{K}test_security_node.py::test_row_20_mounts_of_the_machine",
            f"{K}test_security_inside.py::test_row_19_propagation_to_the_machine",
        ),
        "what passes is asked from the node; the kind of each mount in a row of 8 and of 11",
    ),
    19: Line("devices, their numbers, modes, owners and links"),
    20: Line("mknod works, open does not", (f"{K}test_device_filter.py::test_the_list_of_a_container",)),
    21: Line("/dev/null stays root's", note="the key `null` in the rows of 24"),
    22: Line("capabilities: default, add, drop, ALL", (f"{K}test_privileges.py::test_capabilities",)),
    23: Line("allowPrivilegeEscalation: a setuid program gains nothing"),
    24: Line("user, group, supplementary groups, umask", (f"{K}test_privileges.py::test_groups",)),
    25: Line(
        "limits of resources",
        (f"{K}test_privileges.py::test_limits",),
        "no field sets them; runc gives what its caller has",
    ),
    26: Line("oom_score_adj", note="the key `oom_score_adj` in the rows of 32 and 51"),
    27: Line("readOnlyRootFilesystem"),
    28: Line(
        "sysctls, safe and unsafe",
        (
            f"{K}test_host_namespaces.py::test_1_6_t_linux_sysctl_they_are_the_pods_alone",
            f"{U}test_sysctls.py::test_1_6_unsafe_ones_are_refused_in_the_kubelets_words",
        ),
    ),
    29: Line(
        "seccomp profiles",
        (f"{K}test_privileges.py::test_runc_has_the_same_answers", f"{K}test_privileges.py::test_runtime_default"),
    ),
    30: Line(
        "user namespaces",
        (
            f"{K}test_user_namespace.py::test_maps",
            f"{K}test_user_namespace.py::test_ranges_are_disjoint_and_not_the_machines",
        ),
        "runc 1.1.5 has no idmapped mounts",
    ),
    31: Line(
        "idmapped mounts",
        (f"{K}test_user_namespace.py::test_volumes_are_mapped_and_never_chowned",),
        "runc 1.1.5 has none",
    ),
    32: Line("limits in the cgroup", (f"{K}test_cgroup.py::test_values_read_back",)),
    33: Line("pids.max", note="the key `pids` in the rows of 32: the kubelet sets none by default"),
    34: Line("/sys/fs/cgroup inside: read-only, nothing of others"),
    35: Line("the cgroup of the first process and of exec are one"),
    36: Line(
        "a cgroup that is not empty or is frozen",
        (f"{K}test_doors.py::test_a_paused_container_is_not_entered",),
        "a container's cgroup is new each time",
    ),
    37: Line(
        "nothing is left after a deletion",
        (
            f"{K}test_supervisor.py::test_everything_goes",
            f"{K}test_churn.py::test_ten_rounds_of_many_pods_leave_nothing",
        ),
        "asked from the node",
    ),
    38: Line("no descriptor of the caller's", (f"{K}test_security_inside.py::test_row_01_leaked_descriptors",)),
    39: Line("the helper's binary is not to be had", (f"{K}test_security_inside.py::test_row_07_helper_binary",)),
    40: Line("exit codes of exec, and what cannot be executed", (f"{K}test_exec.py::test_exit_codes",)),
    41: Line("exec has the container's user, environment, directory", note="the cells that are executed"),
    42: Line("working directories: made, another's, bad ones"),
    43: Line("environment: HOME, the last of a name, newlines"),
    44: Line(
        "terminals",
        (
            f"{K}test_attach.py::test_it_is_its_console_and_its_controlling_terminal",
            f"{K}test_exec.py::test_it_is_the_containers",
        ),
        "asked through a terminal of the test's",
    ),
    45: Line("a command without its x bit", note="rootfs `.`: a manifest does not say where the root is"),
    46: Line(
        "states; ending and deleting twice is no error",
        (f"{K}test_supervisor.py::test_what_it_leaves_is_cleared", f"{K}test_sandbox.py::test_they_run"),
        "podlab has no create and start apart",
    ),
    47: Line(
        "every process of a container ends with it",
        (
            f"{K}test_supervisor.py::test_what_a_container_leaves_behind_goes_with_it",
            f"{K}test_host_namespaces.py::test_r_kill_every_process_of_a_container_dies_with_its_first",
        ),
        "asked from the node",
    ),
    48: Line("OCI hooks", note="Kubernetes has none; postStart and preStop: 57"),
    49: Line(
        "the start alone reads the configuration",
        (f"{K}test_container_start.py::test_the_config_is_the_starts_alone",),
    ),
    50: Line(
        "what was there before survives", (f"{L}test_hygiene_volumes.py::test_delete_leaves_the_data_and_nothing_else",)
    ),
    51: Line("umask, personality, session, nice value, keyring"),
    52: Line(
        "logs",
        (
            f"{L}test_logs_exec.py::test_logs_of_each_container",
            f"{L}test_logs_exec.py::test_logs_are_where_kubelet_has_them",
            f"{U}test_crilog.py::test_rotation_names_packs_and_keeps_five",
        ),
        "the kubelet's and the shim's, not runc's",
    ),
    53: Line(
        "OOMKilled and 137",
        (f"{K}test_container_ends.py::test_cgroup_oom_is_137_oom_killed",),
        "the event is the shim's",
    ),
    54: Line(
        "resolv.conf, hosts, hostAliases, hostPort",
        (
            f"{L}test_inside.py::test_resolver_file_byte_for_byte",
            f"{L}test_inside.py::test_hosts_file_with_subdomain_and_aliases",
            f"{K}test_host_port.py::test_k_host_ip",
        ),
        "the kubelet's files",
    ),
    55: Line(
        "the table of restart policies",
        (f"{L}test_restart_policy.py::test_script_that_fails_then_ends_then_runs",),
        "the kubelet's",
    ),
    56: Line(
        "init containers and sidecars",
        (
            f"{K}test_lifecycle.py::test_order_state_and_a_new_sandbox",
            f"{K}test_lifecycle.py::test_they_start_in_order_and_end_last_and_in_reverse",
        ),
        "the kubelet's",
    ),
    57: Line(
        "probes, hooks, termination messages",
        (
            f"{K}test_probes.py::test_restart",
            f"{K}test_lifecycle.py::test_post_start_must_return_before_the_next_is_started",
            f"{K}test_lifecycle.py::test_pre_stop_comes_before_the_signal",
            f"{K}test_container_ends.py::test_termination_message_4096_bytes_of_the_file_or_80_lines_2048_bytes_of_the_log",
        ),
        "the kubelet's",
    ),
    58: Line(
        "activeDeadlineSeconds, back-off, QoS class, variables of Services",
        (
            f"{K}test_lifecycle.py::test_a_deadline_ends_the_pod",
            f"{K}test_supervisor.py::test_state_and_message",
            f"{L}test_inside.py::test_environment_is_path_home_hostname_the_manifest_and_services",
        ),
        "the kubelet's",
    ),
    59: Line(
        "expansion, downward API, modes of volumes",
        (
            f"{K}test_container_env.py::test_row",
            f"{K}test_volumes.py::test_the_layout_is_the_kubelets",
            f"{K}test_volumes.py::test_links_are_given_and_not_followed",
            f"{L}test_inside.py::test_references_are_expanded_as_kubelet_does",
        ),
        "emptyDir in a row of 11 and here; the rest is the kubelet's",
    ),
    60: Line(
        "Jobs",
        (
            f"{L}test_jobs.py::test_beyond_backoff_limit_the_other_pods_go",
            f"{L}test_jobs.py::test_indexed_pods_are_told_their_index",
        ),
        "a controller's",
    ),
    61: Line(
        "DNS",
        (
            f"{L}test_dns_records.py::test_every_kind_of_record",
            f"{K}test_service_dns.py::test_every_kind_of_record_over_udp_and_tcp",
        ),
        "not a runtime's",
    ),
    62: Line(
        "CNI plugins: addresses, routes, removal",
        (f"{K}test_sandbox.py::test_the_store_is_host_locals",),
        "not a runtime's",
    ),
    63: Line("conmon: log format, exit status", (f"{U}test_crilog.py::test_lines",), "the supervisor's, not runc's"),
}


def rows() -> list[tuple[str, Row]]:
    """Every black-box row with its place: pod/container."""
    return [(f"{case.name[:12]}/{cell.name}", row) for case in CASES for cell in case.cells for row in cell.rows]


def table() -> list[tuple[str, str, str, str, str]]:
    """The lines of the page: number, what, rows here and how they compare with runc, other tests, note."""
    made = []
    for number, line in LINES.items():
        own = [row for _, row in rows() if row.number == number]
        differing = sum(bool(row.allowed) for row in own)
        same = f"{len(own) - differing} equal" + (f", {differing} allowed to differ" if differing else "")
        tests = ", ".join(f"[`{name}`](../{path})" for path, _, name in (test.partition("::") for test in line.tests))
        made.append((str(number), line.what, same if own else "", tests, line.note))
    return made


def differences() -> list[tuple[str, str, str, str]]:
    """What runc may say otherwise: number, where, key, why."""
    return [(str(row.number), place, f"`{key}`", why) for place, row in rows() for key, why in row.allowed.items()]


def figures() -> list[tuple[str, ...]]:
    """What was tried and how it came out: facts of the tables, which the tests hold."""
    own = [row for _, row in rows()]
    compared = [row for row in own if not row.runc]
    differing = [row for row in compared if row.allowed]
    naive = [row for cell in NAIVE.values() for row in cell.rows]
    answered = {number for number, line in LINES.items() if line.tests} | {row.number for row in own}
    return [
        ("of the list", str(len(LINES))),
        ("of these answered by a test", str(len(answered))),
        ("black-box rows, each in one container", str(len(own))),
        ("of these equal to runc in every key", str(len(compared) - len(differing))),
        ("of these with a key that may differ", str(len(differing))),
        ("black-box rows tried under the naive runtime", str(len(naive))),
        ("of these that it fails", str(sum(row.naive for row in naive))),
    ]

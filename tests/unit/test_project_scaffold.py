"""The scaffolding itself: a snapshot that misses a change, or a runner that hides a failure, would hide everything."""

from __future__ import annotations

import pathlib
import subprocess
import textwrap

import pytest

from support import module_runner, snapshot
from support.waiting import until

MODULE = """
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podlab.errors import PodlabError

def main():
    module = AnsibleModule({"word": {"type": "str", "required": True}}, supports_check_mode=True)
    module.warn("mind the gap")
    if module.params["word"] == "bad":
        module.fail_json(msg=str(PodlabError("word must not be bad")))
    module.exit_json(changed=False, word=module.params["word"], check=module.check_mode, diff={"on": module._diff})
"""


@pytest.fixture
def module_file(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "podlab_sample.py"
    path.write_text(textwrap.dedent(MODULE))
    return path


def run(path: pathlib.Path, **args: object) -> dict[str, object]:
    return module_runner.run(path, args, check=True, diff=True, tmp=str(path.parent))


def test_module_result_carries_modes_and_plain_warnings(module_file: pathlib.Path) -> None:
    result = run(module_file, word="good")
    assert (result["word"], result["check"], result["diff"]) == ("good", True, {"on": True})
    assert result["warnings"] == ["mind the gap"]
    # A second run starts afresh.
    assert run(module_file, word="good")["warnings"] == ["mind the gap"]


@pytest.mark.parametrize(
    ("args", "message"),
    [({"word": "bad"}, "word must not be bad"), ({}, "missing required arguments: word")],
)
def test_failed_module_is_a_result(module_file: pathlib.Path, args: dict[str, str], message: str) -> None:
    result = run(module_file, **args)
    assert result["failed"] is True
    assert result["msg"] == message


def test_module_that_does_not_exit_is_found(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "podlab_silent.py"
    path.write_text("def main():\n    pass\n")
    with pytest.raises(AssertionError, match="returned without exit_json"):
        run(path)


def test_both_names_of_the_package_import() -> None:
    import ansible.module_utils.podlab.errors as on_target

    import podlab.errors as on_controller

    assert on_target.__file__ == on_controller.__file__


BEFORE = {"link": {"eth0": "up", "lo": "up"}, "file": {"/etc/hosts": "mode 100644"}}


@pytest.mark.parametrize(
    ("after", "line"),
    [
        ({**BEFORE, "link": {**BEFORE["link"], "veth1": "up"}}, "link: appeared: veth1 up"),
        ({**BEFORE, "link": {"lo": "up"}}, "link: disappeared: eth0 up"),
        ({**BEFORE, "link": {"eth0": "down", "lo": "up"}}, "link: changed: eth0: 'up' -> 'down'"),
        ({**BEFORE, "file": {}}, "file: disappeared: /etc/hosts mode 100644"),
    ],
)
def test_snapshot_names_each_difference(after: snapshot.Snapshot, line: str) -> None:
    assert snapshot.differences(BEFORE, after) == [line]
    with pytest.raises(AssertionError, match="The machine changed"):
        snapshot.assert_same(BEFORE, after)


def test_snapshot_equal_is_silent() -> None:
    snapshot.assert_same(BEFORE, {section: dict(names) for section, names in BEFORE.items()})


def test_snapshot_looks_for_new_processes_only() -> None:
    before = {"process": {"sshd": "1", "sleep 9": "2"}}
    snapshot.assert_same(before, {"process": {"sleep 9": "1"}})
    assert snapshot.differences(before, {"process": {"sshd": "1", "sleep 9": "3", "pause": "1"}}) == [
        "process: appeared: pause 1",
        "process: changed: sleep 9: '2' -> '3'",
    ]


def test_snapshot_sees_what_a_lab_leaves(tmp_path: pathlib.Path) -> None:
    taken = snapshot.take()
    assert "lo" in taken["link"]
    assert any(mount.startswith("/proc ") for mount in taken["mount"])
    assert "net/ipv4/ip_forward" in taken["sysctl"]
    assert "/etc/passwd" in taken["file"]


def test_snapshot_tells_the_tests_processes_from_others() -> None:
    ours = subprocess.Popen(["sleep", "987.1"])
    others = subprocess.Popen(["sleep", "987.2"], env={})
    try:
        # Both have become sleep once they can be seen as such.
        until(
            lambda: all("sleep" in pathlib.Path(f"/proc/{p.pid}/cmdline").read_text() for p in (ours, others)), "sleep"
        )
        processes = snapshot.take()["process"]
    finally:
        for process in (ours, others):
            process.kill()
            process.wait()
    assert "sleep 987.1" in processes
    assert "sleep 987.2" not in processes

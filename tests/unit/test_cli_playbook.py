"""What a person sees while a playbook runs, and what the commands learn from it."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from invoke.exceptions import Exit

from podlab.cli import checks, lab, play, playbook, status
from podlab.errors import PodlabError

# Playbook after playbook.
pytestmark = pytest.mark.own_machine

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "cli"

PLAYBOOK = """
- name: Everything a line can be
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Nothing to do
      ansible.builtin.assert: {that: [true], quiet: true}
    - name: Move a value
      ansible.builtin.set_fact: {a: 1}
    - name: Say something
      ansible.builtin.debug: {msg: "three words said"}
    - name: Change something
      ansible.builtin.assert: {that: [true], quiet: true}
      changed_when: true
    - name: Change several
      ansible.builtin.assert: {that: [true], quiet: true}
      changed_when: item != "b"
      loop: [a, b, c, d, e, f]
    - name: Not wanted
      ansible.builtin.assert: {that: [true]}
      when: false
    - name: Does not matter
      ansible.builtin.fail: {msg: "it failed"}
      # The callback must tell a failure that is let pass from one that is not.
      ignore_errors: true
    - name: Fail
      ansible.builtin.fail: {msg: "nodes[1].role: must be worker.\\n  pods[2]: too"}
    - name: Never reached
      ansible.builtin.debug: {msg: "no"}
"""


@pytest.fixture
def callback() -> Any:
    spec = importlib.util.spec_from_file_location("callback_podlab", ROOT / "plugins" / "callback" / "podlab.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ansible(file: pathlib.Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [playbook.ansible_playbook(), "-i", "localhost,", "-c", "local", str(file), *more]
    own = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "podlab", **environment}
    return subprocess.run(argv, env={**os.environ, **own}, capture_output=True, text=True)


@pytest.fixture
def plays(tmp_path: pathlib.Path) -> pathlib.Path:
    file = tmp_path / "play.yml"
    file.write_text(PLAYBOOK)
    return file


def test_one_line_per_task(plays: pathlib.Path, tmp_path: pathlib.Path) -> None:
    result = tmp_path / "result.json"
    done = ansible(plays, PODLAB_RESULT_FILE=str(result))
    assert done.returncode == 2
    # How long a task took is not for a golden file.
    text = re.sub(r"  \d+\.\d s$", "", done.stdout, flags=re.MULTILINE)
    golden = GOLDEN / "callback.txt"
    if os.environ.get("PODLAB_UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()
    assert done.stderr == "nodes[1].role: must be worker.\n  pods[2]: too\n"
    assert '"changed": 2' in result.read_text()


def test_only_changes_when_that_is_asked_for(plays: pathlib.Path) -> None:
    lines = [
        line.split("  ")[1] for line in ansible(plays, PODLAB_SHOW="changes").stdout.splitlines() if line[:2] == "  "
    ]
    assert lines == ["three words said", "Change something", "Change several", "Does not matter", "Fail"]


def test_v_shows_the_details(plays: pathlib.Path) -> None:
    done = ansible(plays, "-v")
    assert "TASK [Change something]" in done.stdout
    assert "PLAY RECAP" in done.stdout


ENTRIES = [{"name": name, "changed": name != "c", "steps": []} for name in "abcdefg"]


@pytest.mark.parametrize(
    ("result", "check", "expected"),
    [
        ({"changed": True}, False, "changed"),
        ({"changed": True}, True, "would change"),
        ({"changed": True, "results": ENTRIES[:3]}, False, "2 changed: a, b"),
        ({"changed": True, "results": ENTRIES}, False, "6 changed: a, b, d, e and 2 more"),
        ({"changed": True, "results": ENTRIES}, True, "6 would change\n    a\n    b\n    d\n    e\n    f\n    g"),
        ({"changed": True, "results": ["text"]}, False, "changed"),
        ({"changed": True, "results": [{"changed": True}]}, False, "changed"),
    ],
)
def test_what_changed(callback: Any, result: dict[str, Any], check: bool, expected: str) -> None:
    assert callback.what_changed(result, check) == expected


# The commands


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Playbooks end as the list's last element says; what they were called with is put before it."""
    calls: list[Any] = [playbook.Outcome(0, 2.44, 3, ())]

    def run(name: str, **options: Any) -> playbook.Outcome:
        calls.insert(-1, (name, options))
        return calls[-1]

    monkeypatch.setattr(play, "run", run)
    monkeypatch.setattr(lab, "read", lambda name="": {"name": name})
    monkeypatch.setattr(status, "show", lambda state: print(f"tables of {state['name']}"))
    monkeypatch.delenv("KIND_CLUSTER_NAME", raising=False)
    return calls


NO = {"check": False, "diff": False, "verbose": 0}


@pytest.mark.parametrize(
    ("changed", "check", "said"),
    [
        (3, False, "tables of kind\n\nlab kind is up in 2.4 s\n"),
        (0, False, "tables of kind\n\nnothing to do (2.4 s)\n"),
        (3, True, "3 tasks would change (2.4 s)\n"),
        (1, True, "1 task would change (2.4 s)\n"),
        (0, True, "nothing to do (2.4 s)\n"),
    ],
)
def test_up_says_what_came_of_it(
    fake: list[Any], capsys: pytest.CaptureFixture[str], changed: int, check: bool, said: str
) -> None:
    fake[-1] = fake[-1]._replace(changed=changed)
    play.up("", "", "", "", check=check, diff=False, verbose=0)
    assert capsys.readouterr().out == said


def test_up_passes_its_options_to_the_inventory(fake: list[Any], tmp_path: pathlib.Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("kind: Cluster\nname: three\n")
    play.up(str(config), "", str(tmp_path), "172.30.0.0/16", **NO)
    play.up(str(config), "two", "", "", **NO)
    assert [options["environment"] for _, options in fake[:-1]] == [
        {"PODLAB_CONFIG": str(config), "PODLAB_MANIFESTS": str(tmp_path), "PODLAB_NODE_SUBNET": "172.30.0.0/16"},
        {"PODLAB_CONFIG": str(config), "KIND_CLUSTER_NAME": "two"},
    ]


def test_the_name_of_the_lab_is_the_configs(
    fake: list[Any], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("kind: Cluster\nname: three\n")
    play.up(str(config), "", "", "", **NO)
    assert "lab three is up" in capsys.readouterr().out


def test_manifests_are_read_though_the_config_is_bad(
    fake: list[Any], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake[-1] = fake[-1]._replace(code=play.PARSER_ERROR)
    config = tmp_path / "c.yaml"
    config.write_text("kind: Cluster\n")
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "m.yaml").write_text("apiVersion: v1\nkind: Nothing\n")
    with pytest.raises(Exit):
        play.up(str(config), "", "", "", **NO)
    assert "m.yaml:2: Nothing: kind: podlab does not support" in capsys.readouterr().err


def test_a_playbook_that_fails_has_said_why(fake: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    fake[-1] = fake[-1]._replace(code=2)
    for command in (
        lambda: play.up("", "", "", "", **NO),
        lambda: play.down("x", purge=False, everything=False, **NO),
        lambda: play.demo("pod", verbose=0),
    ):
        with pytest.raises(Exit) as caught:
            command()
        assert (caught.value.code, caught.value.message) == (2, None)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("labs", "name", "everything", "purge", "expected"),
    [
        (["kind"], "", False, False, [("kind", False)]),
        (["two"], "", False, True, [("two", True)]),
        (["a", "b"], "b", False, False, [("b", False)]),
        (["a", "b"], "", True, True, [("a", False), ("b", True)]),
        ([], "", True, False, []),
        ([], "", True, True, [("kind", True)]),
        ([], "", False, False, [("kind", False)]),
    ],
)
def test_down(
    fake: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    labs: list[str],
    name: str,
    everything: bool,
    purge: bool,
    expected: list[tuple[str, bool]],
) -> None:
    monkeypatch.setattr("podlab.runtime.state.labs", lambda: labs)
    play.down(name, purge=purge, everything=everything, **NO)
    assert [
        (options["environment"]["KIND_CLUSTER_NAME"], options["variables"]["podlab_purge"]) for _, options in fake[:-1]
    ] == expected
    assert all(book == "teardown.yml" and options["environment"]["PODLAB_DOWN"] == "1" for book, options in fake[:-1])


def test_a_lab_that_is_half_made_cannot_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "read", lambda name="": {"name": "kind", "cluster": None})
    with pytest.raises(PodlabError, match="The lab kind is half made. Finish it with ./lab up"):
        play.scale("deployment/web", 2, name="", namespace="", **NO)


LOSES_CTRL_C = """
import os, signal
from ansible.plugins.callback import CallbackBase

class Ends:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "aggregate", "loses"

    def v2_playbook_on_task_start(self, task, is_conditional):
        if task.get_name() == "Interrupted":
            Ends()
"""


@pytest.mark.parametrize(("callback", "verbose"), [("podlab", ()), ("lesson", ("-v",))])
def test_ctrl_c_is_not_lost(tmp_path: pathlib.Path, callback: str, verbose: tuple[str, ...]) -> None:
    """In a destructor Python ignores it ("Exception ignored in"); the playbook ends all the same."""
    (tmp_path / "loses.py").write_text(LOSES_CTRL_C)
    file = tmp_path / "play.yml"
    tasks = [{"name": name, "ansible.builtin.debug": {}} for name in ("Interrupted", "Never reached")]
    file.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    done = ansible(
        file,
        *verbose,
        ANSIBLE_STDOUT_CALLBACK=callback,
        ANSIBLE_CALLBACK_PLUGINS=f"{ROOT / 'plugins' / 'callback'}:{tmp_path}",
        ANSIBLE_CALLBACKS_ENABLED="loses",
    )
    assert "Exception ignored in" in done.stderr
    assert done.returncode == 99
    assert "Never reached" not in done.stdout


@pytest.fixture
def interrupts() -> Iterator[list[int]]:
    """What Ctrl-C does while none of the commands runs: it is noted."""
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    yield noted
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_the_childs_to_answer(interrupts: list[int]) -> None:
    code = "import os, signal; os.kill(os.getppid(), signal.SIGINT); print('cleaned up'); raise SystemExit(99)"
    assert playbook.wait([sys.executable, "-c", code], os.environ) == 99
    assert interrupts == []
    signal.raise_signal(signal.SIGINT)
    assert interrupts == [signal.SIGINT]


def test_ctrl_c_at_any_moment(interrupts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the child is just there, and when it has just ended: its exit code is known all the same."""

    def interrupted(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def method(*args: Any, **options: Any) -> Any:
            result = original(*args, **options)
            signal.raise_signal(signal.SIGINT)
            return result

        monkeypatch.setattr(owner, name, method)

    interrupted(subprocess.Popen, "__init__")
    interrupted(os, "waitpid")
    assert playbook.wait([sys.executable, "-c", "raise SystemExit(99)"], os.environ) == 99
    assert interrupts == []


def test_a_child_that_does_not_end_after_ctrl_c_is_killed(interrupts: list[int]) -> None:
    code = "import os, signal, time; signal.signal(2, signal.SIG_IGN); os.kill(os.getppid(), 2); signal.pause()"
    assert playbook.wait([sys.executable, "-c", code], os.environ, patience=0.1) == 137


@pytest.mark.parametrize("left", [True, False])
def test_a_lesson_has_a_lab_of_its_own(fake: list[Any], monkeypatch: pytest.MonkeyPatch, left: bool) -> None:
    monkeypatch.setenv("PODLAB_MANIFESTS", "/elsewhere")
    monkeypatch.setattr("podlab.runtime.state.labs", lambda: ["kind", *(["demo-pod"] if left else [])])
    play.demo("pod", verbose=0)
    (book, options), *more = fake[:-1]
    environment = options["environment"]
    assert (book, options["callback"], environment["KIND_CLUSTER_NAME"]) == ("demo/pod.yml", "lesson", "demo-pod")
    assert environment["PODLAB_CONFIG"] == str(lab.ROOT / "playbooks" / "demo" / "files" / "pod" / "cluster.yaml")
    assert environment["PODLAB_MANIFESTS"] == environment["PODLAB_DOWN"] == ""
    # Stopped half-way, it leaves a lab behind, which goes too; no other does.
    taken = [(book, options["environment"]["KIND_CLUSTER_NAME"]) for book, options in more]
    assert taken == ([("teardown.yml", "demo-pod")] if left else [])


def test_a_child_that_a_signal_ends() -> None:
    code = "import os; os.kill(os.getpid(), 9)"
    assert playbook.wait([sys.executable, "-c", code], os.environ) == 137


def test_a_playbook_run_for_real(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "x.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - name: Change\n"
        "      ansible.builtin.assert: {that: ['given == 7'], quiet: true}\n      changed_when: true\n"
    )
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    (tmp_path / "ansible.cfg").write_text(f"[defaults]\ncallback_plugins = {ROOT}/plugins/callback\n")
    outcome = playbook.run("x.yml", variables={"given": 7})
    assert (outcome.code, outcome.changed, outcome.said) == (0, 1, ())
    assert playbook.run("x.yml", variables={"given": 8}).code == 2


# test and lint


@pytest.mark.parametrize(
    ("floor", "expected"),
    [("all", ["-k", "x"]), ("unit", ["-m", "unit", "-k", "x"]), ("demo", ["-m", "demo", "-k", "x"])],
)
def test_floors(floor: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(checks, "wait", lambda argv, environment: seen.append(list(argv)) or 5)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert checks.tests(floor, ["-k", "x"]) == 5
    assert seen == [[sys.executable, "-m", "pytest", *expected]]


@pytest.mark.parametrize(
    ("floor", "message"),
    [("roof", "--floor roof: there is none of that name"), ("kernel", "podlab needs root for `test --floor kernel`")],
)
def test_floors_that_cannot_be(floor: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PodlabError, match=message):
        checks.tests(floor, [])


def test_lint_runs_all_and_shows_what_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(name: str, code: int) -> checks.Check:
        argv = [sys.executable, "-c", f"print('{name} speaks'); raise SystemExit({code})"]
        return checks.Check(name, lambda root: [argv])

    monkeypatch.setattr(checks, "CHECKS", (check("good", 0), check("bad", 1), check("worse", 3)))
    assert checks.lint() == 2
    out = capsys.readouterr().out
    assert "bad speaks" in out and "worse speaks" in out and "good speaks" not in out
    assert out.endswith("2 of 3 failed: bad, worse\n")
    assert checks.lint("good") == 0
    with pytest.raises(PodlabError, match="--only x: there is none of that name. Use good, bad, worse"):
        checks.lint("x")

"""The menu: what a person types reaches the function that does it, and errors come out as one message."""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import sys
from typing import Any

import pytest
from invoke import Program

from podlab.cli import checks, execute, get, lab, logs, play, rules, status, validate
from podlab.cli.playbook import Outcome
from podlab.errors import PodlabError

COMMANDS = (
    "apply attach bench capture debug delete down exec get inspect lint logs rules scale status test top trace tree up "
    "validate"
)
LESSONS = "affinity dns local-policy node-port pod pod-drop routes service service-trace"
EVERY_TASK = sorted([*COMMANDS.split(), *(f"demo-{name}" for name in LESSONS.split())])


class Calls(list[tuple[tuple[Any, ...], dict[str, Any]]]):
    """Records how a function was called, and answers with `result`."""

    result: Any = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.append((args, kwargs))
        return self.result


@pytest.fixture
def tasks() -> Any:
    """The menu, read afresh."""
    sys.modules.pop("tasks", None)
    return importlib.import_module("tasks")


@pytest.fixture
def typed(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """typed("get", "pods"): run the menu as root with these words; returns the exit code."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["invoke", *words])
        with pytest.raises(SystemExit) as caught:
            Program(namespace=tasks.ns, binary="invoke", name="invoke").run()
            raise SystemExit(0)
        return int(caught.value.code or 0)

    return run


@pytest.fixture
def got(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    for module, name in (
        (get, "get"), (logs, "logs"), (execute, "execute"), (status, "status"), (validate, "validate"),
        (rules, "rules"),
        (checks, "tests"), (checks, "lint"), (play, "up"), (play, "down"), (play, "change"), (play, "demo"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, calls)
    return calls


def test_the_menu_has_every_command_with_a_short_imperative_line(tasks: Any) -> None:
    assert sorted(tasks.ns.task_names) == EVERY_TASK
    for name in EVERY_TASK:
        first = (tasks.ns[name].__doc__ or "").splitlines()[0]
        assert 0 < len(first) < 60, name
        assert first[0].isupper() and not first.endswith("."), name


def test_every_option_has_help(tasks: Any, typed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for context in tasks.ns.to_contexts():
        for flag, argument in context.flags.items():
            assert argument.help, f"{context.name} {flag}"
    assert typed("get", "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: ./lab get [WHAT...] [OPTION...]\n\nPrint pods, ")
    assert "-l, --selector SELECTOR  " in text
    assert "-A, --all-namespaces  " in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", EVERY_TASK)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(
    typed: Any, got: Calls, capsys: pytest.CaptureFixture[str], name: str, flag: str
) -> None:
    assert typed(name, flag) == 0
    assert f" {name} " in capsys.readouterr().out.splitlines()[0]
    assert not got


@pytest.mark.parametrize("words", [["help", "exec"], ["--help", "exec"], ["exec", "--help"], ["exec", "p", "-h"]])
def test_help_of_one_command(typed: Any, got: Calls, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert typed(*words) == 0
    assert capsys.readouterr().out.startswith("Usage: ./lab exec POD [OPTION...] -- COMMAND [ARG...]\n")
    assert not got


@pytest.mark.parametrize(
    ("words", "message"),
    [
        # invoke has a -w, -l, -R and -e of its own, and would take them without a word.
        (["get", "pods", "-w"], "get: there is no option -w. See ./lab get --help\n"),
        (["logs", "web", "-l", "app=web"], "logs: there is no option -l. See ./lab logs --help\n"),
        (["apply", "-Rf", "directory"], "apply: there is no option -R. See ./lab apply --help\n"),
        (["get", "--namspace=a"], "get: there is no option --namspace. Did you mean --namespace? See "),
        (["delete", "pod/a", "--no-wiat"], "delete: there is no option --no-wiat. Did you mean --no-wait? "),
        (["get", "pods", "-Aow"], None),
        (["exec", "web", "ls"], "exec: 'ls' is one word too many. Usage: ./lab exec POD [OPTION...] -- "),
        (["trace", "web"], "trace: SERVICE is missing. Usage: ./lab trace POD SERVICE [OPTION...]\n"),
        (["trace"], "trace: POD and SERVICE are missing. Usage: "),
        (["describe", "pod/a"], "There is no command 'describe'. Did you mean get TYPE NAME -o yaml? ./lab --list "),
        (["gte", "pods"], "There is no command 'gte'. Did you mean get? ./lab --list shows all\n"),
        (["demo-p"], "There is no command 'demo-p'. Did you mean demo-pod, demo-pod-drop? "),
        (["xyzzy"], "There is no command 'xyzzy'. ./lab --list shows all\n"),
    ],
)
def test_what_a_command_does_not_know_is_refused(
    typed: Any, got: Calls, capsys: pytest.CaptureFixture[str], words: list[str], message: str | None
) -> None:
    assert typed(*words) == (1 if message else 0)
    assert capsys.readouterr().err.startswith(message or "")
    assert bool(got) is (message is None)


def test_the_list_of_commands(typed: Any, got: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Usage: ./lab COMMAND [OPTION...]"
    assert [line.split()[0] for line in lines[2:-2]] == EVERY_TASK
    assert max(map(len, lines)) <= 80 and not got


def test_several_commands_in_one_line(typed: Any, got: Calls) -> None:
    assert typed("down", "--all", "up", "--nat", "get", "pods", "-A") == 0
    assert len(got) == 3


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["get"], []),
        (["get", "pods"], ["pods"]),
        (["get", "pods", "a", "b"], ["pods", "a", "b"]),
        (["get", "-n", "kube-system", "pods", "a"], ["pods", "a"]),
        (["get", "-nkube-system", "pods", "a"], ["pods", "a"]),
        (["get", "--namespace=kube-system", "pods"], ["pods"]),
        (["get", "pods", "-A", "--show-labels"], ["pods"]),
        (["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"], ["pods"]),
        (["get", "pods", "-owide", "a"], ["pods", "a"]),
        (["get", "pods", "status"], ["pods", "status"]),
        (["--echo", "get", "pods"], ["pods"]),
    ],
)
def test_words_among_flags(typed: Any, got: Calls, words: list[str], what: list[str]) -> None:
    assert typed(*words) == 0
    assert got[0][0] == (what,)


def test_flags_of_get(typed: Any, got: Calls) -> None:
    assert typed("get", "pods", "-Al", "app=web", "-o=name", "--show-labels") == 0
    assert got[0][1] == {
        "name": "", "namespace": "", "all_namespaces": True, "selector": "app=web", "form": "name", "labels": True,
        "headers": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "stdin", "tty"),
    [
        (["-it"], True, True),
        (["-ti"], True, True),
        (["-i", "-t"], True, True),
        (["--stdin"], True, False),
        ([], False, False),
    ],
)
def test_exec_passes_the_command_on_word_for_word(
    typed: Any, got: Calls, words: list[str], stdin: bool, tty: bool
) -> None:
    got.result = 7
    command = ["sh", "-c", "echo 'a  b' \"$0\"", "", "-it", "--", "x y"]
    assert typed("exec", "web-1", "-c", "main", *words, "--", *command) == 7
    (pod, argv), options = got[0]
    assert (pod, argv) == ("web-1", command)
    assert options == {"name": "", "namespace": "", "container": "main", "stdin": stdin, "tty": tty}


@pytest.mark.parametrize(
    ("words", "tail"), [([], None), (["--tail", "5"], 5), (["--tail=0"], 0), (["--tail", "-1"], None)]
)
def test_tail_of_logs(typed: Any, got: Calls, words: list[str], tail: int | None) -> None:
    assert typed("logs", "web-1", "-f", *words) == 0
    assert got[0][0] == ("web-1",)
    assert (got[0][1]["tail"], got[0][1]["follow"]) == (tail, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["logs", "web", "--tail", "many"], "--tail: must be a whole number, 0 or more, not 'many'"),
        (["scale", "deployment/web", "--replicas", "-3"], "--replicas: must be a whole number, 0 or more, not '-3'"),
        (["scale", "deployment/web"], "--replicas: must be a whole number, 0 or more, not ''"),
        (["scale", "web", "--replicas", "3"], "web: write TYPE/NAME, for example deployment/web"),
        (["scale", "job/x", "--replicas", "3"], "job/x: a Job cannot be scaled. Use a deployment, replicaset"),
        (["delete"], "delete: say either what, as in deployment/web, or -f FILE"),
        (["delete", "pod/a", "-f", "x.yaml"], "delete: say either what, as in deployment/web, or -f FILE"),
        (
            ["delete", "-f", "x.yaml", "-n", "shop"],
            "delete: -n is for TYPE/NAME. Objects of a file say themselves which ",
        ),
        (["delete", "pods"], "pods: write TYPE/NAME"),
        (["delete", "pot/a"], "pot/a: 'pot' is not a kind that podlab builds. Use one of: "),
        (["apply"], "apply: must specify one of -f FILE"),
        (["apply", "-f", "a.yaml", "-f", "b.yaml"], "a.yaml: no such file or directory"),
        (["apply", "-f", "a.yaml", "-f", "b.yaml"], "b.yaml: no such file or directory"),
    ],
)
def test_errors_are_one_message(
    typed: Any, got: Calls, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert typed(*words) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert got == []


def test_scale_reaches_the_playbook_as_variables(typed: Any, got: Calls) -> None:
    assert typed("scale", "deploy/web", "--replicas", "5") == 0
    wanted = {"kind": "deployment", "name": "web", "namespace": "default", "replicas": 5}
    assert got[0][0][1] == {"podlab_scale": wanted}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["Deployment/web", "po/a", "-n", "shop"], [("Deployment", "web", "shop"), ("Pod", "a", "shop")]),
        (["pods", "a", "b"], [("Pod", "a", "default"), ("Pod", "b", "default")]),
        (["ns/shop"], [("Namespace", "shop", None)]),
    ],
)
def test_what_is_named_to_be_deleted_becomes_a_manifest(
    typed: Any, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: list[tuple[str, str, str]]
) -> None:
    seen: list[Any] = []

    def change(name: str, variables: dict[str, Any], **options: Any) -> None:
        texts = [pathlib.Path(path).read_text() for path in variables["podlab_delete_files"]]
        seen.append((texts, variables["podlab_wait"]))

    monkeypatch.setattr(play, "change", change)
    assert typed("delete", *words, "--no-wait") == 0
    [([text], wait)] = seen
    found = [(item["kind"], item["metadata"]["name"], item["metadata"].get("namespace")) for item in
             json.loads(text)["items"]]  # fmt: skip
    assert (found, wait) == (expected, False)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "from the task\ndeployment/web scaled\ndone (1.0 s)\n"),
        (["--check"], "from the task (dry run)\ndeployment/web scaled (dry run)\n1 task would change (1.0 s)\n"),
    ],
)
def test_a_change_takes_the_lab_as_it_was_made(
    typed: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    runs: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(lab, "read", lambda name="": {"name": "two", "cluster": {"name": "two", "nodes": []}})

    def run(playbook: str, **options: Any) -> Outcome:
        runs.append((playbook, options))
        return Outcome(0, 1.0, 1, ("from the task",))

    monkeypatch.setattr(play, "run", run)
    assert typed("scale", "deployment/web", "--replicas", "2", *flags) == 0
    assert capsys.readouterr().out == said
    [(playbook, options)] = runs
    assert playbook == "lab.yml"
    assert options["environment"] == {"KIND_CLUSTER_NAME": "two", "PODLAB_DOWN": "1", "PODLAB_SHOW": "changes"}
    assert options["variables"]["podlab_cluster"] == {"name": "two", "nodes": []}
    assert options["check"] is bool(flags)


def test_files_are_relative_to_where_the_person_is(
    typed: Any, got: Calls, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text("kind: Pod\n")
    monkeypatch.setenv("PODLAB_CWD", str(tmp_path))
    assert typed("apply", "-f", "a.yaml", "-f", str(tmp_path)) == 0
    assert got[0][0][1]["podlab_apply_files"] == [str(tmp_path / "a.yaml"), str(tmp_path)]


def test_up_and_down(typed: Any, got: Calls) -> None:
    assert typed("up", "--name", "two", "--check", "--diff", "-vv", "--node-subnet", "172.30.0.0/16") == 0
    assert got[0][0] == ("", "two", "", "172.30.0.0/16")
    assert got[0][1] == {"nat": "", "check": True, "diff": True, "verbose": 2}
    assert typed("up", "--nat") == typed("up", "--no-nat") == 0
    assert [call[1]["nat"] for call in got[1:]] == ["yes", "no"]
    del got[1:]
    assert typed("up", "--nat", "--no-nat") != 0
    assert typed("down", "--all", "--purge") == 0
    assert got[1][1]["everything"] is True and got[1][1]["purge"] is True


def test_flags_of_rules(typed: Any, got: Calls) -> None:
    words = ["-f", "a.yaml", "b.yaml", "--file=c.yaml", "--node", "w", "--config", "p.yaml", "--ip-family", "ipv6"]
    more = ["--kernel-feature", "nfacct", "--kernel-feature=random-fully", "--mode", "iptables", "--save-form"]
    assert typed("rules", *words, *more) == 0
    assert got[0][0] == (
        rules.Asked(
            ["a.yaml", "c.yaml", "b.yaml"], "w", "p.yaml", ["nfacct", "random-fully"], "ipv6", "iptables", True, ""
        ),
    )


def test_more_words_for_pytest(typed: Any, got: Calls) -> None:
    got.result = 5
    assert typed("test", "--floor", "unit", "--", "-k", "a or b") == 5
    assert got[0][0] == ("unit", ["-k", "a or b"])


@pytest.mark.parametrize("name", [name for name in EVERY_TASK if name not in ("rules", "validate", "test", "lint")])
def test_without_root_there_is_one_message_and_nothing_else(
    typed: Any, got: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    pod = dict.fromkeys(("attach", "debug", "exec", "inspect", "logs"), ["p"])
    word = {**pod, "scale": ["deployment/web"], "trace": ["p", "s"]}.get(name, [])
    assert typed(name, *word) == 1
    captured = capsys.readouterr()
    assert captured.err == f"podlab needs root for `{name}`: run it with sudo\n"
    assert captured.out == ""
    assert got == []


@pytest.mark.parametrize("name", ["rules", "validate", "lint"])
def test_what_touches_nothing_needs_no_root(typed: Any, got: Calls, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert typed(name) == 0
    assert len(got) == 1


def test_an_error_may_bring_its_own_exit_code(
    typed: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> int:
        raise PodlabError("no such binary", exit_code=255)

    monkeypatch.setattr(execute, "execute", refuse)
    assert typed("exec", "p", "--", "nothing") == 255
    assert capsys.readouterr().err == "no such binary\n"


def test_a_reader_that_has_seen_enough_is_no_error(typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[tuple[int, int]] = []

    def broken(*args: Any, **kwargs: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(get, "get", broken)
    monkeypatch.setattr(os, "dup2", lambda old, new: replaced.append((old, new)))
    assert typed("get", "pods") == 141
    assert [new for _, new in replaced] == [1]
    os.close(replaced[0][0])

"""The commands that change a lab: each runs a playbook, then says in a few lines what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from invoke.exceptions import Exit

from ..errors import PodlabError
from ..kube import kinds
from ..runtime import state
from . import lab, status
from .playbook import Outcome, run

# ansible-playbook's exit code when the inventory, which is our cluster config, is not valid.
PARSER_ERROR = 4
DEFAULT_CONFIG = lab.ROOT / "clusters" / "default" / "cluster.yaml"


def nat_word(nat: bool, no_nat: bool) -> str:
    """--nat and --no-nat as one word: yes, no, or empty for what it was. Raises PodlabError when both are given."""
    if nat and no_nat:
        raise PodlabError("up: --nat and --no-nat exclude each other. Give one of them, or none to leave it as it is")
    return "yes" if nat else "no" if no_nat else ""


def up(
    config: str,
    name: str,
    manifests: str,
    node_subnet: str,
    *,
    nat: str = "",
    check: bool,
    diff: bool,
    verbose: int,
) -> None:
    """Make the lab as its config and manifests say. Raises Exit with ansible-playbook's code when that fails.

    nat: yes, no, or empty for what it was.
    """
    config_file = lab.user_path(config) if config else DEFAULT_CONFIG
    environment = {"PODLAB_CONFIG": str(config_file)}
    if name:
        environment["KIND_CLUSTER_NAME"] = name
    if manifests:
        environment["PODLAB_MANIFESTS"] = str(lab.user_path(manifests))
    if node_subnet:
        environment["PODLAB_NODE_SUBNET"] = node_subnet
    if nat:
        environment["PODLAB_NAT"] = nat
    outcome = run("lab.yml", environment=environment, check=check, diff=diff, verbose=verbose)
    if outcome.code == PARSER_ERROR:
        _complain_of_manifests(environment.get("PODLAB_MANIFESTS") or str(config_file.parent / "manifests"))
    _end(outcome)
    if check:
        print(f"{_things(outcome)} would change ({outcome.seconds:.1f} s)" if outcome.changed else _nothing(outcome))
        return
    made = name or os.environ.get("KIND_CLUSTER_NAME") or config_name(config_file)
    status.show(lab.read(made))
    print(f"\nlab {made} is up in {outcome.seconds:.1f} s" if outcome.changed else f"\n{_nothing(outcome)}")


def _complain_of_manifests(path: str) -> None:
    """Say what is wrong with the manifests too, when a bad config kept the playbook from looking at them."""
    from ..controller import read_manifests  # takes longer than all the rest here, and is seldom needed

    for problem in read_manifests([path]).problems:
        print(f"warning: {problem}" if problem.level == "warning" else problem, file=sys.stderr)


def config_name(config: pathlib.Path) -> str:
    """The cluster's name in its config; kind's default when it has none."""
    document = yaml.safe_load(config.read_text(encoding="utf-8"))
    return str((document or {}).get("name") or lab.DEFAULT_NAME)


def down(name: str, *, purge: bool, everything: bool, check: bool, diff: bool, verbose: int) -> None:
    """Take one lab away, or every one there is. Raises Exit with ansible-playbook's code when that fails."""
    names = state.labs() if everything else [name or os.environ.get("KIND_CLUSTER_NAME") or _only_name()]
    if not names and not purge:
        print("nothing to do: there is no lab on this machine")
    for one in names or [lab.DEFAULT_NAME] * purge:
        outcome = run(
            "teardown.yml",
            environment={"KIND_CLUSTER_NAME": one, "PODLAB_DOWN": "1"},
            # The image store belongs to all labs: it goes with the last one.
            variables={"podlab_purge": purge and one == (names or [one])[-1]},
            check=check,
            diff=diff,
            verbose=verbose,
        )
        _end(outcome)
        verb = "would be taken down" if check else "is down"
        there = state.labs()
        only = f": there is no lab {one} on this machine, only {', '.join(there)}" if there and one not in there else ""
        print(f"lab {one} {verb} ({outcome.seconds:.1f} s)" if outcome.changed else f"{_nothing(outcome)}{only}")


def _only_name() -> str:
    """The lab to take down when none is named. Raises PodlabError when there are several, none of them the default."""
    there = state.labs()
    if len(there) > 1 and lab.DEFAULT_NAME not in there:
        raise PodlabError(
            f"down: which lab? There are {', '.join(there)}. Say it with --name, or all of them with --all"
        )
    return there[0] if len(there) == 1 else lab.DEFAULT_NAME


def change(
    name: str, variables: Mapping[str, Any], said: Sequence[str] = (), *, check: bool, diff: bool, verbose: int
) -> None:
    """Change the objects of a lab (apply, delete, scale) and reconcile it.

    The lab is what it was made as, whatever its config says by now: the inventory only names it, and its cluster comes
    from its state. variables: podlab_apply_files, podlab_delete_files, podlab_scale, podlab_wait. said: lines to print
    when something has changed.
    Raises PodlabError when there is no such lab.
    """
    there = lab.whole(name)
    outcome = run(
        "lab.yml",
        environment={"KIND_CLUSTER_NAME": there["name"], "PODLAB_DOWN": "1", "PODLAB_SHOW": "changes"},
        variables={"podlab_cluster": there["cluster"], **variables},
        check=check,
        diff=diff,
        verbose=verbose,
    )
    _end(outcome)
    dry = " (dry run)" if check else ""
    for line in (*outcome.said, *(said if outcome.changed else ())):
        print(f"{line}{dry}")
    would = f"{_things(outcome)} would change" if check else "done"
    print(f"{would} ({outcome.seconds:.1f} s)" if outcome.changed else _nothing(outcome))


def apply(files: Sequence[str], *, name: str, check: bool, diff: bool, verbose: int) -> None:
    """`apply -f`. Raises PodlabError when no file is given or one is not there."""
    if not files:
        raise PodlabError("apply: must specify one of -f FILE: a manifest, a directory of manifests, or -")
    with Files() as given:
        change(name, {"podlab_apply_files": given.paths(files)}, check=check, diff=diff, verbose=verbose)


def delete(
    words: Sequence[str],
    files: Sequence[str],
    *,
    name: str,
    namespace: str,
    wait: bool,
    check: bool,
    diff: bool,
    verbose: int,
) -> None:
    """`delete TYPE/NAME` or `delete -f`. Raises PodlabError when neither or both are given."""
    if bool(words) == bool(files):
        raise PodlabError("delete: say either what, as in deployment/web, or -f FILE")
    if files and namespace:
        raise PodlabError("delete: -n is for TYPE/NAME. Objects of a file say themselves which namespace they are in")
    names = object_names(words) if words else []
    with Files() as given:
        paths = given.paths(files) if files else [given.add(as_manifest(names, namespace))]
        variables = {"podlab_delete_files": paths, "podlab_wait": wait}
        change(name, variables, check=check, diff=diff, verbose=verbose)


def as_manifest(names: Sequence[str], namespace: str) -> str:
    """A manifest that says no more of the objects than which they are: enough to delete them."""
    found = []
    for name in names:
        word, _, own = name.partition("/")
        kind = _kind(word)
        metadata = {"name": own, **({"namespace": namespace or "default"} if kind.namespaced else {})}
        found.append({"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata})
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": found})


def scale(what: str, replicas: int, *, name: str, namespace: str, check: bool, diff: bool, verbose: int) -> None:
    """`scale TYPE/NAME --replicas N`."""
    kind, _, target = object_names([what])[0].partition("/")
    if not _kind(kind).scalable:
        scalable = ", ".join(known.names[0] for known in kinds.KINDS.values() if known.scalable)
        raise PodlabError(f"{what}: a {_kind(kind).name} cannot be scaled. Use a {scalable}")
    wanted = {"kind": kind, "name": target, "namespace": namespace or "default", "replicas": replicas}
    change(name, {"podlab_scale": wanted}, [f"{kind}/{target} scaled"], check=check, diff=diff, verbose=verbose)


def demo(name: str, *, verbose: int, files_of: str = "") -> None:
    """A narrated lesson: playbooks/demo/NAME.yml. Raises Exit with ansible-playbook's code when a claim fails.

    One with a cluster config in playbooks/demo/files/NAME has a lab of its own, called demo-NAME. It ends with the
    lesson, also when that was stopped half-way. files_of: another directory there, which several lessons share.
    """
    files = lab.ROOT / "playbooks" / "demo" / "files" / (files_of or name)
    own = f"demo-{name}"
    environment = {"KIND_CLUSTER_NAME": own, "PODLAB_DOWN": "1"}
    if (files / "cluster.yaml").exists():
        environment = {
            "KIND_CLUSTER_NAME": own,
            "PODLAB_CONFIG": str(files / "cluster.yaml"),
            **dict.fromkeys(("PODLAB_DOWN", "PODLAB_MANIFESTS", "PODLAB_NODE_SUBNET"), ""),
        }
    try:
        outcome = run(f"demo/{name}.yml", environment=environment, verbose=verbose, callback="lesson")
    finally:
        if own in state.labs():
            down(own, purge=False, everything=False, check=False, diff=False, verbose=verbose)
    _end(outcome)


def object_names(words: Sequence[str]) -> list[str]:
    """TYPE/NAME... or TYPE NAME... as a list of "type/name", type in the singular, as kubectl prints it.

    Raises PodlabError for anything else, and for a type that podlab does not build.
    """
    if all("/" in word for word in words):
        pairs = [word.split("/") for word in words]
    else:
        pairs = [[words[0], name] for name in words[1:]]
    if not pairs or any(len(pair) != 2 or not all(pair) or "/" in pair[1] for pair in pairs):
        raise PodlabError(f"{' '.join(words)}: write TYPE/NAME, for example deployment/web")
    for word, name in pairs:
        if kinds.find(word) is None:
            every = ", ".join(kind.names[0] for kind in kinds.KINDS.values())
            raise PodlabError(f"{word}/{name}: {word!r} is not a kind that podlab builds. Use one of: {every}")
    return [f"{_kind(word).names[0]}/{name}" for word, name in pairs]


def _kind(word: str) -> kinds.Kind:
    found = kinds.find(word)
    assert found is not None
    return found


class Files:
    """The files of `-f`, for as long as a playbook reads them: what came another way is put in temporary ones."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, text: str) -> str:
        """Path of a temporary file with this text."""
        file = tempfile.NamedTemporaryFile("w", prefix="podlab-", suffix=".yaml")  # noqa: SIM115 - the stack closes it
        self._stack.enter_context(file)
        file.write(text)
        file.flush()
        return file.name

    def paths(self, names: Sequence[str]) -> list[str]:
        """Absolute paths; "-" is standard input. Raises PodlabError that names every path that does not exist."""
        found, missing = [], []
        for name in names:
            try:
                found.append(self.add(sys.stdin.read()) if name == "-" else str(lab.user_path(name)))
            except PodlabError as error:
                missing.append(error.message)
        if missing:
            raise PodlabError("\n".join(missing))
        return found


def _end(outcome: Outcome) -> None:
    # The callback has said what went wrong.
    if outcome.code:
        raise Exit(code=outcome.code)


def _things(outcome: Outcome) -> str:
    return f"{outcome.changed} task{'s' if outcome.changed > 1 else ''}"


def _nothing(outcome: Outcome) -> str:
    return f"nothing to do ({outcome.seconds:.1f} s)"

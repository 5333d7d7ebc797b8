"""The menu's commands that look into pods; tasks.py has the others. No logic."""

from __future__ import annotations

import functools

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from .menu import Command, remainder, whole_number

command = functools.partial(task, klass=Command)

NAME = "the lab, by its cluster's name (default: KIND_CLUSTER_NAME, or the one there is)"
NAMESPACE = "namespace (default: default)"
POD = "a pod: its name or a beginning of it that is unique, or TYPE/NAME as in deployment/web, service/web"
CONTAINER = "container (default: the first)"


@command(
    name="exec",
    root=True,
    short={"container": "c", "namespace": "n", "stdin": "i", "tty": "t"},
    help={
        "pod": POD,
        "container": CONTAINER,
        "namespace": NAMESPACE,
        "stdin": "pass standard input on",
        "tty": "in a terminal of its own (with -i)",
        "name": NAME,
    },
)
def exec_(
    c: Context,
    pod: str,
    container: str = "",
    namespace: str = "",
    stdin: bool = False,
    tty: bool = False,
    name: str = "",
) -> None:
    """Run a command in a pod: exec POD -- COMMAND"""
    from . import execute

    code = execute.execute(pod, remainder(c), name=name, namespace=namespace, container=container, stdin=stdin, tty=tty)
    raise Exit(code=code)


@command(
    root=True,
    short={"container": "c", "namespace": "n", "stdin": "i", "tty": "t"},
    help={
        "pod": POD,
        "container": CONTAINER,
        "namespace": NAMESPACE,
        "stdin": "pass standard input on",
        "tty": "be its terminal (with -i); Ctrl-P Ctrl-Q leaves it",
        "name": NAME,
    },
)
def attach(
    c: Context,
    pod: str,
    container: str = "",
    namespace: str = "",
    stdin: bool = False,
    tty: bool = False,
    name: str = "",
) -> None:
    """Attach to a container's standard streams"""
    from . import attach

    attach.attach(pod, name=name, namespace=namespace, container=container, stdin=stdin, tty=tty)


@command(
    root=True,
    short={"container": "c", "namespace": "n", "stdin": "i", "tty": "t"},
    help={
        "pod": POD,
        "image": "of the new container",
        "container": "its name (default: debugger- and five characters)",
        "target": "the container whose processes it sees",
        "profile": "general, baseline, restricted, netadmin or sysadmin: what it may do",
        "namespace": NAMESPACE,
        "stdin": "keep its standard input open and attach to it",
        "tty": "give it a terminal (with -i)",
        "name": NAME,
    },
)
def debug(
    c: Context,
    pod: str,
    image: str = "",
    container: str = "",
    target: str = "",
    profile: str = "general",
    namespace: str = "",
    stdin: bool = False,
    tty: bool = False,
    name: str = "",
) -> None:
    """Add a container to a running pod: debug POD --image IMAGE"""
    from . import debug

    asked = debug.Asked(image, remainder(c), container, target, profile, stdin, tty)
    debug.debug(pod, asked, name=name, namespace=namespace)


@command(
    root=True,
    short={"container": "c", "namespace": "n", "follow": "f", "previous": "p"},
    help={
        "pod": POD,
        "container": CONTAINER,
        "namespace": NAMESPACE,
        "follow": "go on until the pod ends",
        "previous": "of the run before this one",
        "tail": "only so many last lines",
        "timestamps": "with the time of each line",
        "name": NAME,
    },
)
def logs(
    c: Context,
    pod: str,
    container: str = "",
    namespace: str = "",
    follow: bool = False,
    previous: bool = False,
    tail: str = "",
    timestamps: bool = False,
    name: str = "",
) -> None:
    """Print what a container wrote"""
    from . import logs

    logs.logs(
        pod,
        name=name,
        namespace=namespace,
        container=container,
        follow=follow,
        previous=previous,
        tail=whole_number(tail, "--tail") if tail not in ("", "-1") else None,
        timestamps=timestamps,
    )


@command(
    root=True,
    short={"container": "c", "namespace": "n", "output": "o"},
    help={
        "pod": POD,
        "container": "only this container (default: all)",
        "namespace": NAMESPACE,
        "output": "json or yaml instead of text",
        "name": NAME,
    },
)
def inspect(c: Context, pod: str, container: str = "", namespace: str = "", output: str = "", name: str = "") -> None:
    """Show a pod as the kernel sees it: namespaces, mounts"""
    from . import inspection

    inspection.inspect(pod, name=name, namespace=namespace, container=container, form=output)


@command(
    root=True,
    words="what",
    short={"namespace": "n", "all_namespaces": "A", "selector": "l", "output": "o"},
    help={
        "what": "pods (default) or nodes, then names",
        "containers": "a line for each container",
        "once": "one table instead of a live one",
        "sort-by": "cpu or memory",
        "namespace": NAMESPACE,
        "all-namespaces": "of every namespace",
        "selector": "only pods with these labels: app=web,tier in (a,b),!old",
        "output": "json or yaml",
        "no-headers": "tables without their first line",
        "name": NAME,
    },
)
def top(
    c: Context,
    what: list[str],
    containers: bool = False,
    once: bool = False,
    sort_by: str = "",
    namespace: str = "",
    all_namespaces: bool = False,
    selector: str = "",
    output: str = "",
    no_headers: bool = False,
    name: str = "",
) -> None:
    """Show CPU, memory and throttling of pods or nodes, live"""
    from . import top

    asked = top.asked(what, namespace, all_namespaces, selector, containers, sort_by)
    top.top(asked, name=name, once=once, form=output, headers=not no_headers)


@command(
    root=True,
    words="pod",
    short={"namespace": "n", "output": "o"},
    help={"pod": POD + "; without one the whole lab", "namespace": NAMESPACE, "output": "json or yaml", "name": NAME},
)
def tree(c: Context, pod: list[str], namespace: str = "", output: str = "", name: str = "") -> None:
    """Show the lab's processes as a tree, with their namespaces"""
    from . import tree

    tree.tree(pod, name=name, namespace=namespace, form=output)


COMMANDS = (exec_, attach, debug, logs, inspect, top, tree)

"""The project's menu: `./lab --list`, or `invoke --list` inside the virtual environment."""

from __future__ import annotations

import functools

from invoke import Collection, Exit, task

from podlab.cli import pod_tasks
from podlab.cli.menu import Command, remainder, whole_number
from podlab.cli.pod_tasks import NAME, NAMESPACE, POD

command = functools.partial(task, klass=Command)

CHECK = "only say what would change"
DIFF = "show each change, before and after"
VERBOSE = "show what each task returns; -vvv shows all"
CHANGES = {"check": CHECK, "diff": DIFF, "verbose": VERBOSE}


@command(
    root=True,
    incrementable=["verbose"],
    short={"verbose": "v"},
    help={
        "config": "kind cluster config (default: clusters/default/cluster.yaml)",
        "name": "name of the lab (default: KIND_CLUSTER_NAME, else what the config says)",
        "manifests": "file or directory of manifests (default: manifests/ beside the config)",
        "node-subnet": "network of the nodes (default: the first free of 172.18.0.0/16, 172.19.0.0/16, ...)",
        "nat": "let pods reach what the machine reaches: it forwards and masquerades for the lab; kept until --no-nat",
        "no-nat": "no longer (default for a new lab)",
        **CHANGES,
    },
)
def up(
    c, config="", name="", manifests="", node_subnet="", nat=False, no_nat=False, check=False, diff=False, verbose=0
):
    """Make the lab, or bring it to what its files say"""
    from podlab.cli import play

    wanted = play.nat_word(nat, no_nat)
    play.up(config, name, manifests, node_subnet, nat=wanted, check=check, diff=diff, verbose=verbose)


@command(
    root=True,
    incrementable=["verbose"],
    short={"verbose": "v"},
    help={"name": NAME, "purge": "remove the image store too", "all": "every lab of this machine", **CHANGES},
)
def down(c, name="", purge=False, all=False, check=False, diff=False, verbose=0):  # noqa: A002 - the flag's name
    """Take the lab away, without a trace"""
    from podlab.cli import play

    play.down(name, purge=purge, everything=all, check=check, diff=diff, verbose=verbose)


@command(root=True, short={"output": "o"}, help={"name": NAME, "output": "table, json or yaml"})
def status(c, name="", output=""):
    """Show the lab's nodes, pods and Services"""
    from podlab.cli import status

    status.status(name, output)


@command(
    root=True,
    words="what",
    short={"output": "o", "namespace": "n", "all_namespaces": "A", "selector": "l"},
    help={
        "what": "pods, nodes, services, deployments and so on, several (svc,ep) or all; then names, or TYPE/NAME",
        "output": "wide, json, yaml, name, jsonpath=TEMPLATE or custom-columns=TITLE:PATH,...",
        "namespace": NAMESPACE,
        "all-namespaces": "of every namespace",
        "selector": "only those with these labels: app=web,tier in (a,b),!old",
        "show-labels": "add a column with the labels",
        "no-headers": "tables without their first line",
        "name": NAME,
    },
)
def get(
    c, what, output="", namespace="", all_namespaces=False, selector="", show_labels=False, no_headers=False, name=""
):
    """Print pods, nodes, services and so on, as kubectl"""
    from podlab.cli import get

    get.get(
        what,
        name=name,
        namespace=namespace,
        all_namespaces=all_namespaces,
        selector=selector,
        form=output,
        labels=show_labels,
        headers=not no_headers,
    )


@command(
    root=True,
    iterable=["file"],
    incrementable=["verbose"],
    short={"file": "f", "verbose": "v"},
    help={
        "file": "manifest, directory of manifests, or - for standard input; may be repeated",
        "name": NAME,
        **CHANGES,
    },
)
def apply(c, file, name="", check=False, diff=False, verbose=0):
    """Add or change objects of the lab: apply -f FILE"""
    from podlab.cli import play

    play.apply(file, name=name, check=check, diff=diff, verbose=verbose)


@command(
    root=True,
    words="what",
    iterable=["file"],
    incrementable=["verbose"],
    short={"file": "f", "namespace": "n", "verbose": "v"},
    help={
        "what": "TYPE/NAME, or TYPE NAME...",
        "file": "what this manifest names; may be repeated",
        "namespace": "of TYPE/NAME (default: default)",
        "wait": "return when the pods have ended",
        "name": NAME,
        **CHANGES,
    },
)
def delete(c, what, file, namespace="", wait=True, name="", check=False, diff=False, verbose=0):
    """Delete objects of the lab: delete TYPE/NAME, or -f FILE"""
    from podlab.cli import play

    play.delete(what, file, name=name, namespace=namespace, wait=wait, check=check, diff=diff, verbose=verbose)


@command(
    root=True,
    incrementable=["verbose"],
    short={"namespace": "n", "verbose": "v"},
    help={
        "what": "TYPE/NAME, as in deployment/web",
        "replicas": "how many pods",
        "namespace": NAMESPACE,
        "name": NAME,
        **CHANGES,
    },
)
def scale(c, what, replicas="", namespace="", name="", check=False, diff=False, verbose=0):
    """Change how many pods: scale TYPE/NAME --replicas N"""
    from podlab.cli import play

    count = whole_number(replicas, "--replicas")
    play.scale(what, count, name=name, namespace=namespace, check=check, diff=diff, verbose=verbose)


@command(words="files", help={"files": "cluster configs and manifests; directories and - (standard input) too"})
def validate(c, files):
    """Check cluster configs and manifests; touch nothing"""
    from podlab.cli import validate

    raise Exit(code=validate.validate(files))


@command(
    root=True,
    words="what",
    short={"count": "c", "interface": "i", "namespace": "n", "write": "w"},
    help={
        "what": "a pod (as exec takes it) or a node, then tcpdump's filter: port 80 and host 10.244.1.2",
        "count": "end after so many packets",
        "interface": "of a pod eth0, of a node any, unless this says another one",
        "namespace": NAMESPACE,
        "write": "packets to this file, - for standard output, instead of lines",
        "name": NAME,
    },
)
def capture(c, what, count="", interface="", namespace="", write="", name=""):
    """Watch packets with tcpdump: capture POD|NODE [FILTER...]"""
    from podlab.cli import capture

    capture.capture(
        what,
        remainder(c),
        name=name,
        namespace=namespace,
        interface=interface,
        write=write,
        count=whole_number(count, "--count", 1) if count else 0,
    )


@command(
    root=True,
    short={"namespace": "n", "output": "o"},
    help={
        "pod": POD + "; or a node",
        "service": "NAME, NAMESPACE/NAME or NAME.NAMESPACE, with :PORT if it has several; or ADDRESS:PORT[/udp]",
        "namespace": "of the pod and the Service (default: default)",
        "output": "json or yaml instead of the story",
        "name": NAME,
    },
)
def trace(c, pod, service, namespace="", output="", name=""):
    """Follow one packet: trace POD SERVICE[:PORT]"""
    from podlab.cli import trace

    trace.trace(pod, service, name=name, namespace=namespace, form=output)


@command(
    words="files",
    iterable=["file", "kernel_feature"],
    short={"file": "f"},
    help={
        "files": "the same as -f",
        "node": "the Node whose rules they are (default: the only one; without any, nothing is local)",
        "file": "Services, EndpointSlices and Nodes as kubectl prints them: file, directory, or -; may be repeated",
        "config": "a KubeProxyConfiguration (default: kube-proxy's own defaults)",
        "kernel-feature": "random-fully or nfacct: the kernel has it (default: of files none, of a lab all there is)",
        "ip-family": "ipv4 or ipv6 (default: that of the node's first address, else ipv4)",
        "mode": "iptables or nftables (default: what --config says, else iptables)",
        "save-form": "as iptables-save will print them",
        "name": f"without -f: {NAME}",
    },
)
def rules(c, files, file, kernel_feature, node="", config="", ip_family="", mode="", save_form=False, name=""):
    """Print the rules kube-proxy writes: rules -f FILE"""
    from podlab.cli import rules

    rules.rules(rules.Asked([*file, *files], node, config, kernel_feature, ip_family, mode, save_form, name))


# Lesson -> what it shows, and whose files it has when they are not its own.
LESSONS = {
    "pod": ("Show how a pod is made, step by step", ""),
    "service": ("Show a Service's rules, and who gets 3000 connections", "services"),
    "node-port": ("Show a Service at a port of every node", "services"),
    "affinity": ("Show a Service that remembers its clients", "services"),
    "local-policy": ("Show a NodePort that keeps the client's address", "services"),
    "dns": ("Show the names of Services and who answers", "services"),
    "service-trace": ("Follow one packet through a Service's rules", "services"),
    "pod-drop": ("Show a node that drops what one pod sends", "services"),
    "routes": ("Show the routes between nodes, and one missing", "services"),
}


def lesson(name):
    """The task demo-NAME."""
    says, files_of = LESSONS[name]

    def demo(c, verbose=0):
        from podlab.cli import play

        play.demo(name, files_of=files_of, verbose=verbose)

    demo.__doc__ = says
    options = {"short": {"verbose": "v"}, "incrementable": ["verbose"], "help": {"verbose": VERBOSE}}
    return command(name=f"demo-{name}", root=True, **options)(demo)


@command(help={"floor": "unit, kernel, lab, demo or all; more arguments for pytest follow --"})
def test(c, floor="all"):
    """Run the tests: test --floor unit -- -k name"""
    from podlab.cli import checks

    raise Exit(code=checks.tests(floor, remainder(c)))


@command(help={"only": "one of the tools"})
def lint(c, only=""):
    """Run the linters and the type checker"""
    from podlab.cli import checks

    raise Exit(code=1 if checks.lint(only) else 0)


@command(
    root=True,
    short={"output": "o"},
    help={"rows": "only rows whose name has this in it", "output": "table or json", "pods": "pods of the scale rows"},
)
def bench(c, rows="", output="", pods="100"):
    """Measure the speed, as ratios against yardsticks"""
    from podlab.cli import bench

    raise Exit(code=bench.bench(rows, output, whole_number(pods, "--pods", 1)))


ns = Collection(
    *map(lesson, LESSONS),
    up,
    down,
    status,
    get,
    apply,
    delete,
    scale,
    *pod_tasks.COMMANDS,
    capture,
    trace,
    validate,
    rules,
    test,
    lint,
    bench,
)
ns.configure({"run": {"echo": False}})

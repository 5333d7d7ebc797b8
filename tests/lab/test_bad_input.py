"""What cannot be: one clear message per mistake, an exit code, and nothing on the machine touched."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from support import snapshot
from support.machine import OUTSIDE, Done, Machine, machine
from support.small_lab import SERVER, SmallLab, yaml_of
from support.small_lab import pod as pod_of

pytestmark = pytest.mark.own_machine

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
BAD_CONFIG = 4  # ansible-playbook's code for an inventory that cannot be parsed
FAILED = 2


def pod(name: str = "a", image: str = "busybox", more: str = "", spec: str = "") -> str:
    """A Pod: more of its container's fields, and of its spec's."""
    container = f"    - {{name: c, image: '{image}'{more}}}"
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{spec}  containers:\n{container}\n"


class Case(NamedTuple):
    """Files, and the lines that are to be said of them; DIR stands for the files' directory, M for the manifest."""

    said: tuple[str, ...]
    config: str = ""
    manifest: str = SERVER
    code: int = FAILED


TWO_CONTAINERS = pod() + "    - {name: c, image: busybox}\n"
CLASHING = SERVER.replace("ports: [{port: 80}]", "ports: [{name: a, port: 80}, {name: b, port: 80}]")
OTHER = """---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {clusterIP: 10.96.0.80, ports: [{port: 80}]}
"""
SLICE = """---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: other, labels: {kubernetes.io/service-name: server}}
endpoints: [{addresses: ["2001:db8::1"]}]
addressType: IPv4
"""
LONG = "a" * 254
NAME_RULE = (
    "metadata.name: must be lower case letters, digits, '-' and '.', "
    "each part beginning and ending with a letter or digit"
)

CASES = {
    "unknown field in the config": Case(
        ("[ERROR]: DIR/cluster.yaml:4: nodez: unknown field. Did you mean nodes?",),
        config="nodez: []\n",
        code=BAD_CONFIG,
    ),
    "unknown field in a manifest": Case(
        ("M:6: Pod/a: spec.containers[0].imagee: unknown field. Did you mean image?",), manifest=pod(more=", imagee: x")
    ),
    "two errors in two files": Case(
        (
            "[ERROR]: DIR/cluster.yaml:4: nodez: unknown field. Did you mean nodes?",
            "M:6: Pod/a: spec.containers[0].imagee: unknown field. Did you mean image?",
        ),
        config="nodez: []\n",
        manifest=pod(more=", imagee: x"),
        code=BAD_CONFIG,
    ),
    "pod subnet too small": Case(
        (
            "[ERROR]: DIR/cluster.yaml:4: networking.podSubnet: 10.244.0.0/25 is smaller than the /24 that every node "
            "gets: nodes would never be ready. Use a /24 or larger",
        ),
        config="networking: {podSubnet: 10.244.0.0/25}\n",
        code=BAD_CONFIG,
    ),
    "subnets that overlap": Case(
        (
            "[ERROR]: DIR/cluster.yaml:4: networking.podSubnet: podSubnet 10.96.0.0/16 and serviceSubnet 10.96.0.0/16 "
            "overlap. A Service's address could be a pod's: make them separate",
        ),
        config="networking: {podSubnet: 10.96.0.0/16}\n",
        code=BAD_CONFIG,
    ),
    "container name twice": Case(
        (
            "M:7: Pod/a: spec.containers[1].name: the container name 'c' is there twice, first at containers[0]. "
            "Give each its own name",
        ),
        manifest=TWO_CONTAINERS,
    ),
    "name too long": Case(
        (f"M:3: Pod/{'a' * 93}...: metadata.name: must have at most 253 characters, not 254; it is '{'a' * 76}...",),
        manifest=pod(LONG),
    ),
    "Service ports clash": Case(
        (
            "M:16: Service/server: spec.ports[1].port: port 80/TCP clashes with ports[0] of this Service. "
            "Give each port and protocol once",
        ),
        manifest=CLASHING,
    ),
    "node port out of range": Case(
        (
            "M:16: Service/server: spec.ports[0].nodePort: must be in the range 30000-32767, not 80. "
            "Choose one, or leave it out to be given one",
        ),
        manifest=SERVER.replace("ports: [{port: 80}]", "type: NodePort, ports: [{port: 80, nodePort: 80}]"),
    ),
    "cluster address of another Service": Case(
        (
            "M:21: Service/other: spec.clusterIP: 10.96.0.80 is taken by the Service default/server. "
            "Choose another, or leave it out to be given one",
        ),
        manifest=SERVER + OTHER,
    ),
    "endpoints of another family": Case(
        (
            "M:21: EndpointSlice/other: endpoints[0].addresses[0]: must be an IPv4 address, as addressType says, "
            "not '2001:db8::1'",
        ),
        manifest=SERVER + SLICE,
    ),
    "unsupported field": Case(
        (
            "M:6: Pod/a: spec.containers[0].resizePolicy: podlab does not support it: a running container keeps its "
            "resources. Change resources: the pod is made anew",
        ),
        manifest=pod(more=", resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}]"),
    ),
    "YAML that makes Python objects": Case(
        ("M:6: the tag !!python/object/apply:os.system is not allowed. Remove the tag: plain data only",),
        manifest=pod(more=", command: [!!python/object/apply:os.system [id]]"),
    ),
    "name with dots": Case((f"M:3: Pod/../../etc: {NAME_RULE}; it is '../../etc'",), manifest=pod("../../etc")),
    "name with a slash": Case((f"M:3: Pod/a/b: {NAME_RULE}; it is 'a/b'",), manifest=pod("a/b")),
    "name with a newline": Case((f"M:3: Pod/a?b: {NAME_RULE}; it is 'a\\nb'",), manifest=pod('"a\\nb"')),
    "node that is not there": Case(
        ("M:5: Pod/a: spec.nodeName: there is no node nowhere. The nodes are bad-control-plane",),
        manifest=pod(spec="  nodeName: nowhere\n"),
    ),
}
# Every message is held to golden files elsewhere: these show that `validate` says what `up` says.
VALIDATED = (
    "unknown field in the config",
    "two errors in two files",
    "subnets that overlap",
    "Service ports clash",
    "node port out of range",
    "cluster address of another Service",
    "endpoints of another family",
    "YAML that makes Python objects",
)


@pytest.fixture(scope="module")
def host() -> Iterator[Machine]:
    """A machine: every test asserts that it was not touched."""
    with machine() as made:
        yield made


@pytest.fixture
def untouched(host: Machine) -> Iterator[None]:
    """The machine after the test must be as it was before."""
    before = host.snapshot()
    yield
    snapshot.assert_same(before, host.snapshot())


def lab_of(host: Machine, directory: pathlib.Path, case: Case) -> SmallLab:
    return SmallLab(host, directory, "bad", manifests=case.manifest, config=case.config)


def errors(done: Done, lab: SmallLab) -> list[str]:
    """The lines of standard error, with the test's own paths made short."""
    text = done.stderr.replace(str(lab.manifest), "M").replace(str(lab.directory), "DIR")
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("name", CASES)
def test_up_refuses(host: Machine, untouched: None, tmp_path: pathlib.Path, name: str) -> None:
    lab = lab_of(host, tmp_path, CASES[name])
    done = lab.invoke("up", "--config", str(lab.config))
    assert (done.returncode, errors(done, lab)) == (CASES[name].code, list(CASES[name].said))


@pytest.mark.parametrize("name", VALIDATED)
def test_validate_says_the_same(host: Machine, tmp_path: pathlib.Path, name: str) -> None:
    """Without root, too."""
    lab = lab_of(host, tmp_path, CASES[name])
    texts = {"cluster.yaml": lab.config.read_text(), "m.yaml": lab.manifest.read_text()}
    # A directory that nobody may look into.
    script = "".join(f'printf %s "${word}" > "$t/{file}"; ' for word, file in (("1", "cluster.yaml"), ("2", "m.yaml")))
    command = f't=$(mktemp -d); trap "rm -r $t" EXIT; {script} PODLAB_CWD=$t invoke validate cluster.yaml m.yaml'
    done = host.run(*NOBODY, "sh", "-c", command, "sh", *texts.values(), environment={"HOME": "/"})
    said = [
        line.replace("[ERROR]: ", "").replace("DIR/", "").replace("M:", "m.yaml:", 1 if line.startswith("M:") else 0)
        for line in CASES[name].said
    ]
    count = f"{len(said)} error{'s' if len(said) > 1 else ''}"
    assert (done.returncode, done.stderr.splitlines()) == (1, [*said, count])


def test_the_same_files_without_mistakes(host: Machine, tmp_path: pathlib.Path) -> None:
    lab = SmallLab(host, tmp_path, "good")
    done = lab.invoke("validate", str(lab.config), str(lab.manifest))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{lab.config}: ok, 1 cluster config", f"{lab.manifest}: ok, 2 objects"]


def test_an_image_that_does_not_exist(host: Machine, untouched: None, tmp_path: pathlib.Path) -> None:
    """Its registry is asked before anything is made. Nobody listens on the port."""
    lab = lab_of(host, tmp_path, Case((), manifest=pod(image="127.0.0.1:1/no/such:1")))
    done = lab.invoke("up", "--config", str(lab.config))
    assert done.returncode == FAILED
    (line,) = errors(done, lab)
    assert line.startswith('ErrImagePull: failed to pull image "127.0.0.1:1/no/such:1": ')
    assert "connection refused" in line
    assert line.endswith("nginx:latest, podlab/dns:latest.")


def test_a_node_subnet_in_use_names_the_owner(host: Machine, untouched: None, tmp_path: pathlib.Path) -> None:
    lab = SmallLab(host, tmp_path, "bad")
    done = lab.invoke("up", "--config", str(lab.config), "--node-subnet", OUTSIDE.replace("/24", "/25"))
    assert done.returncode == BAD_CONFIG
    assert errors(done, lab) == [
        f"[ERROR]: podlab_node_subnet: {OUTSIDE.replace('/24', '/25')} overlaps route {OUTSIDE} dev eth0. "
        "Free is 172.18.0.0/16"
    ]


@pytest.mark.parametrize(("command", "name"), [("up", ".."), ("down", "../x"), ("down", "a/b"), ("down", "x\ny")])
def test_a_bad_name(host: Machine, untouched: None, tmp_path: pathlib.Path, command: str, name: str) -> None:
    """Of a name paths are made that `down` removes."""
    lab = SmallLab(host, tmp_path, "bad")
    playbook = {"up": "lab.yml", "down": "teardown.yml"}[command]
    environment = {"PODLAB_CONFIG": str(lab.config), "KIND_CLUSTER_NAME": name}
    done = host.run(
        "ansible-playbook",
        f"playbooks/{playbook}",
        environment={**environment, **({"PODLAB_DOWN": "1"} if command == "down" else {})},
    )
    assert done.returncode
    assert "name:" in done.text and repr(name) in done.text.replace("\\\\", "\\"), done.text


def test_the_modules_refuse_a_bad_name_too(host: Machine, untouched: None) -> None:
    for name in ("..", "kind/nodes"):
        arguments = f"state=absent name={name}"
        done = host.run(
            "ansible", "localhost", "-m", "podlab_cluster", "-a", arguments, environment={"PODLAB_DOWN": "1"}
        )
        assert done.returncode and f"not '{name}'" in done.text, done.text


@pytest.mark.parametrize("command", ["up", "down", "status", "get pods", "exec x -- true", "delete pod/x", "demo-pod"])
def test_not_root(host: Machine, untouched: None, command: str) -> None:
    done = host.run(*NOBODY, "invoke", *command.split(), environment={"HOME": "/"})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [f"podlab needs root for `{command.split()[0]}`: run it with sudo"]


@pytest.mark.parametrize("playbook", ["lab.yml", "teardown.yml"])
def test_not_root_playbook(host: Machine, untouched: None, playbook: str) -> None:
    script = f't=$(mktemp -d); trap "rm -r $t" EXIT; HOME=$t ansible-playbook playbooks/{playbook}'
    down = {"PODLAB_DOWN": "1"} if playbook == "teardown.yml" else {}
    done = host.run(*NOBODY, "sh", "-c", script, environment={"ANSIBLE_STDOUT_CALLBACK": "podlab", **down})
    assert done.returncode == FAILED
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert said == ["podlab needs root: namespaces, mounts and links are made. Use sudo"]


def test_manifest_text_is_data(host: Machine, tmp_path: pathlib.Path) -> None:
    """Neither Ansible nor a shell ever looks at it: what is written is what the container gets."""
    template = "{{ lookup('pipe', 'touch /run/pwned') }}"
    values = {
        "TEMPLATE": template,
        "STATEMENT": "{% raw %} {{ 7 * 7 }}",
        "SHELL": "$(touch /run/pwned) `touch /run/pwned` ; 'quoted\" \\",
        "LINES": "one\ntwo\nroot::0:0::/:/bin/sh",
        "TAG": "!unsafe {{ x }}",
        "PERCENT": "100%s %(x)s {0}",
    }
    env = [{"name": name, "value": value} for name, value in values.items()]
    wanted = pod_of("a", "sh", "-c", "exec sleep 10000", template, env=env)
    wanted["metadata"]["annotations"] = {"note": template}
    lab = SmallLab(host, tmp_path, "literal", manifests=yaml_of([wanted]))
    lab.up()
    variables = dict(entry.partition("=")[::2] for entry in lab.exec("a", "cat", "/proc/self/environ").split("\0"))
    assert {name: variables[name] for name in values} == values
    found = lab.pods()["a"]
    assert found["metadata"]["annotations"]["note"] == template
    assert found["spec"]["containers"][0]["command"][-1] == template
    assert "nothing to do" in lab.up()
    assert not host.path("/run/pwned").exists()
    lab.down()

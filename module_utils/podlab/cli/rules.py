"""`rules`: the text that kube-proxy would hand to iptables-restore, from files or from the running lab."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import PodlabError, refuse
from ..kube import nft, proxy, proxy_config, proxy_objects
from ..kube.iptables_save import save_text
from ..kube.manifests import Source
from ..kube.proxy_chains import Options
from ..kube.proxy_model import Object, ProxyNode, family_of
from . import lab, validate

FAMILIES = ("ipv4", "ipv6")
MODES = ("iptables", "nftables")
_NO_IPVS = "podlab has no ipvs mode: kube-proxy's is deprecated since Kubernetes 1.35. Use --mode iptables or nftables"

_NO_SAVE_FORM = "--save-form: is for mode iptables. In mode nftables `nft list ruleset` prints what it was given"


class Asked(NamedTuple):
    """The command's flags, as typed; empty for what was not."""

    files: Sequence[str] = ()
    node: str = ""
    config: str = ""
    features: Sequence[str] = ()
    family: str = ""
    mode: str = ""
    save_form: bool = False
    name: str = ""


class View(NamedTuple):
    """A node's point of view: everything that its rules are made of; or the rules, where they are made already."""

    services: Sequence[Object]
    slices: Sequence[Object]
    node: ProxyNode
    options: Options
    mode: str
    made: proxy.RuleSet | None = None


def rules(asked: Asked) -> None:
    """Print the rules. Raises PodlabError with every error of the flags, else of the config, else of the objects."""
    asked = _sorted_out(asked)
    _check_flags(asked)
    views = _from_files(asked) if asked.files else _from_lab(asked)
    texts = {view.node.name: text_of(view, asked.save_form) for view in views}
    if len(set(texts.values())) > 1:
        raise PodlabError(f"The rules differ from node to node. Say which with --node: {', '.join(texts)}")
    sys.stdout.write(next(iter(texts.values())))


def _sorted_out(asked: Asked) -> Asked:
    """With features one by one: they may be joined by commas, or be several words after one flag, as files may be."""
    features = [name for text in asked.features for name in text.split(",")]
    more = [name for name in asked.files if features and name in proxy_config.FEATURES]
    return asked._replace(features=features + more, files=[name for name in asked.files if name not in more])


def _check_flags(asked: Asked) -> None:
    faults = [
        f"{flag} {value}: must be one of {', '.join(allowed)}"
        for flag, values, allowed in (
            ("--ip-family", [asked.family], FAMILIES),
            ("--mode", [asked.mode], MODES),
            ("--kernel-feature", asked.features, proxy_config.FEATURES),
        )
        for value in values
        if value and value not in allowed and (flag, value) != ("--mode", "ipvs")
    ]
    if asked.mode == "ipvs":
        faults.append(f"--mode ipvs: {_NO_IPVS}")
    if asked.save_form and asked.mode == "nftables":
        faults.append(_NO_SAVE_FORM)
    if asked.files and asked.name:
        faults.append(
            "--name: is for the rules of a running lab, and with -f no lab is looked at. Leave one of them out"
        )
    if faults:
        raise PodlabError("\n".join(faults))


def text_of(view: View, save_form: bool = False) -> str:
    """The rules as text: for iptables-restore, for nft -f, or as iptables-save will print them."""
    if view.mode == "ipvs":
        raise PodlabError(f"mode ipvs: {_NO_IPVS}")
    if view.mode == "nftables" and save_form:
        raise PodlabError(_NO_SAVE_FORM)
    if view.mode == "nftables":
        return nft.ruleset(view.services, view.slices, view.node, view.options).text()
    made = view.made or proxy.restore_text(view.services, view.slices, view.node, view.options)
    return save_text(made.saved()) if save_form else made.text()


def _from_files(asked: Asked) -> list[View]:
    config = _config(asked)
    texts, problems = validate.texts_of(asked.files)
    refuse(problems, "Some files cannot be read")
    objects = proxy_objects.read(Source(text.file, text.text) for text in texts)
    for warning in objects.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    chosen = proxy_objects.pick_node(objects.nodes, asked.node)
    node = proxy_config.bound(config, proxy_objects.proxy_node(chosen))
    family = asked.family or (family_of(node.addresses[0]) if node.addresses else "ipv4")
    options = proxy_config.options(config, node, proxy_objects.pod_cidrs(chosen), family, asked.features)
    options = options._replace(service_cidrs=objects.service_cidrs)
    return [View(objects.services, objects.slices, node, options, config.mode)]


def _config(asked: Asked) -> proxy_config.Config:
    """What --config says; without one, kube-proxy's own defaults."""
    if not asked.config:
        return proxy_config.Config(mode=asked.mode or "iptables")
    texts, problems = validate.texts_of([asked.config])
    refuse(problems)
    if len(texts) != 1:
        raise PodlabError(f"--config {asked.config}: must be a file, not a directory")
    return proxy_config.read(Source(texts[0].file, texts[0].text), asked.mode)


def _from_lab(asked: Asked) -> list[View]:
    """The points of view of the lab's nodes, or of the one that is asked for, with the options that its nodes have."""
    if os.geteuid() != 0:
        raise PodlabError("Reading a lab needs root: run it with sudo. Without a lab: give files with -f")
    if asked.config:
        raise PodlabError("--config: is for rules made from files. Name them with -f")
    # The reader of labs is not needed for files.
    from ..service_plan import ServicePlan
    from ..service_request import request

    state = lab.whole(asked.name)
    cluster, programmed = state["cluster"], state["services"]
    params = {"cluster": cluster, "services": programmed["services"], "endpoint_slices": programmed["endpointslices"]}
    absent = dict.fromkeys(("nodes", "pods", "proxy", "dns_dir", "state_file"))
    wanted = request({**absent, **params, "state": "present"})
    nodes = [node for node in wanted.nodes if asked.node in ("", node.proxy.name)]
    if not nodes:
        names = ", ".join(node.proxy.name for node in wanted.nodes)
        raise PodlabError(f"--node {asked.node}: lab {state['name']} has no node of that name, only: {names}")
    mode = asked.mode or cluster.get("kube_proxy_mode") or "iptables"
    if mode == "none":
        raise PodlabError(f"Lab {state['name']} has no kube-proxy (kubeProxyMode: none). Say which rules with --mode")
    options = wanted.options
    if mode == "iptables" and asked.family in ("", options.family) and not asked.features:
        # Some words of the rules follow what the node's kernel has: whoever programs it finds that out.
        plan = ServicePlan(wanted._replace(mode=mode), check_mode=True)
        plan.items()
        return [View(wanted.services, wanted.slices, node.proxy, options, mode, plan.rules(node)) for node in nodes]
    if asked.family not in ("", options.family):
        # The lab's detector is of the lab's family.
        options = options._replace(family=asked.family, local="", not_local="")
    if asked.features:
        options = proxy_config.with_features(options, asked.features)
    return [View(wanted.services, wanted.slices, node.proxy, options, mode) for node in nodes]

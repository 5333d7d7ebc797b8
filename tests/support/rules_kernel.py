"""A network namespace's rules of one backend and family, loaded and read with the commands that podlab uses."""

from __future__ import annotations

from podlab.kube import proxy_sync
from podlab.kube.iptables_save import Tables, parse_save
from podlab.kube.proxy import RuleSet
from podlab.linux import iptables

from .packets import Namespace


class Kernel:
    """Loads and reads rules. backend: nft or legacy. family: ipv4 or ipv6."""

    def __init__(self, namespace: Namespace, backend: str, family: str) -> None:
        self.namespace = namespace
        self.backend = iptables.detect(family, backend)

    def load(self, text: str) -> None:
        """iptables-restore, as podlab calls it. Raises PodlabError when it refuses."""
        iptables.restore(self.backend, {self.namespace.path: text})

    def tables(self) -> Tables:
        """iptables-save."""
        where = self.namespace.path
        return parse_save(iptables.save(self.backend, [where])[where])

    def sync(self, rules: RuleSet) -> str:
        """Bring the namespace to the rules, whatever it has; the text that did it."""
        text = proxy_sync.sync_text(rules, proxy_sync.compare(rules, rules.saved(), self.tables()))
        self.load(text)
        return text

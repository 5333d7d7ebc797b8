"""The lab's DNS server as a process in a throw-away network namespace, asked with dig."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from support.packets import Namespace

ROOT = pathlib.Path(__file__).resolve().parents[2] / "module_utils"
_RUN = (
    f"import sys; sys.path[:0] = [{str(ROOT)!r}, '/usr/lib/python3/dist-packages']; "
    "from podlab.runtime.dns_server import main; main()"
)
ZONE = "cluster.local"
SVC = f"default.svc.{ZONE}"


class Server:
    """With Debian's Python, as in its image. It answers as soon as this object is there."""

    def __init__(self, namespace: Namespace, records: pathlib.Path, upstreams: Sequence[str] = ()) -> None:
        self.namespace, self.records = namespace, records
        resolv_conf = records.with_suffix(".resolv.conf")
        resolv_conf.write_text("".join(f"nameserver {address}\n" for address in upstreams))
        options = (f"--records={records}", f"--resolv-conf={resolv_conf}")
        self.process = subprocess.Popen(
            ["nsenter", f"--net={namespace.path}", "/usr/bin/python3", "-I", "-S", "-B", "-c", _RUN, *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.said = self.process.stderr.readline()
        if not self.said.startswith("answering on port 53"):
            raise AssertionError((self.said + self.process.communicate(timeout=10)[1]).strip())

    def dig(self, *question: str) -> str:
        """Everything that dig says."""
        return self.namespace.run(f"dig @127.0.0.1 +tries=1 +time=8 {' '.join(question)}")

    def ask(self, *question: str) -> tuple[str, list[str]]:
        """Status, and the data of the answers, sorted."""
        text = self.dig(*question)
        answers = text.partition(";; ANSWER SECTION:\n")[2].partition("\n\n")[0]
        found = [" ".join(line.split()[4:]) for line in answers.splitlines()]
        return text.split("status: ")[1].split(",")[0], sorted(found)

    def close(self) -> None:
        """End it as kubelet does: nothing is left to say, and it goes at once."""
        self.process.terminate()
        _, rest = self.process.communicate(timeout=10)
        assert (self.process.returncode, rest) == (0, "")


@contextmanager
def serving(records: pathlib.Path, upstreams: Sequence[str] = ()) -> Iterator[Server]:
    """A server in a namespace of its own."""
    namespace = Namespace()
    try:
        namespace.run("ip link set lo up")
        made = Server(namespace, records, upstreams)
        try:
            yield made
        finally:
            made.process.terminate()
            made.process.communicate(timeout=10)
    finally:
        namespace.close()

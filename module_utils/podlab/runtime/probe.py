"""One probe, in a forked child of the supervisor that lives as long as it takes: exec, httpGet, tcpSocket or grpc.

Network probes come from the node, as the kubelet's do, and end by an alarm that nothing catches. An exec probe goes
through command.py, as `exec` does. Sources: k8s pkg/probe/{exec,http,tcp,grpc}, pkg/kubelet/prober/prober.go.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, NoReturn

from ..errors import PodlabError
from ..kube import probe_grpc, probe_http
from ..kube.probes import ERROR, FAILURE, SUCCESS
from ..linux import process, syscalls
from . import command

Answer = tuple[str, str]
OUTPUT_LIMIT = 10 * 1024
TEXT_LIMIT = 1024
_CHUNK = 4096
# In a grpc probe's report before its answer: the server speaks HTTP/2.
_CONNECTED = b"connected"
# grpc-go's first back-off.
_GRPC_AGAIN = 1.0


class Attempt(NamedTuple):
    """A probe on its way. pidfd: readable when it has ended. report: where it leaves its answer."""

    pid: int
    pidfd: int
    report: int


def launch(spec: Mapping[str, Any], address: str, target: Callable[[], command.Target]) -> Attempt:
    """Begin a probe. address: the pod's. target: for an exec probe, called in the child.

    Raises OSError when there is no process or descriptor to be had.
    """
    read, write = os.pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _child(spec, address, target, write, parent)
        try:
            return Attempt(pid, syscalls.pidfd_open(pid), read)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    except OSError:
        os.close(read)
        raise
    finally:
        os.close(write)


def finish(attempt: Attempt, spec: Mapping[str, Any], address: str) -> tuple[Answer, bool]:
    """Of an attempt that has ended: its answer, and whether it may have left children behind (it was killed)."""
    _, status = os.waitpid(attempt.pid, 0)
    os.close(attempt.pidfd)
    said = _drain(attempt.report, b"")
    os.close(attempt.report)
    killed = os.WIFSIGNALED(status)
    connected, said = said.startswith(_CONNECTED), said[len(_CONNECTED) :] if said.startswith(_CONNECTED) else said
    if killed and os.WTERMSIG(status) == signal.SIGALRM and spec["kind"] != "exec":
        return (FAILURE, _timed_out(spec, address, connected)), False
    if killed or not said:
        return (ERROR, "it ended without a word"), killed
    outcome, text = marshal.loads(said)
    return (str(outcome), str(text)), False


def _timed_out(spec: Mapping[str, Any], address: str, connected: bool) -> str:
    if spec["kind"] == "grpc":
        return probe_grpc.timed_out(spec, address, connected)
    host = spec["host"] or address
    if spec["kind"] == "tcp":
        return f"dial tcp {probe_http.authority(host, spec['port'])}: i/o timeout"
    return f'Get "{probe_http.url(spec, address)}": context deadline exceeded (Client.Timeout exceeded)'


def _child(
    spec: Mapping[str, Any], address: str, target: Callable[[], command.Target], write: int, parent: int
) -> NoReturn:
    answer = (ERROR, "it ended without a word")
    try:
        # The supervisor would read our signals as its own.
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _die_with(parent)
        answer = _exec(spec, target()) if spec["kind"] == "exec" else _network(spec, address, write)
    except BaseException as error:
        answer = (ERROR, str(error) or repr(error))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(write, marshal.dumps((answer[0], answer[1][:TEXT_LIMIT])))
        os._exit(0)


def _die_with(parent: int) -> None:
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


# -- exec ---------------------------------------------------------------------------------------------------------


def _exec(spec: Mapping[str, Any], target: command.Target) -> Answer:
    """Stay outside of the container while a child joins it, so as to live when it is killed, and reap it."""
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    (nothing, empty), (output, out), (failed, complaint) = os.pipe(), os.pipe(), os.pipe()
    os.close(empty)
    parent = os.getpid()
    joiner = os.fork()
    if joiner == 0:
        _join(spec["command"], target, (nothing, out, out), complaint, parent)
    for fd in (nothing, out, complaint):
        os.close(fd)
    ended = syscalls.pidfd_open(joiner)
    said, in_time = _await(ended, output, spec["timeout"])
    if not in_time:
        _kill_all()
        return FAILURE, f'command "{" ".join(spec["command"])}" timed out'
    status = os.waitpid(joiner, 0)[1]
    _kill_all()
    complaints = _drain(failed, b"")
    if complaints or os.WIFSIGNALED(status):
        return ERROR, complaints.decode("utf-8", "replace") or "the container has just ended"
    text, code = said.decode("utf-8", "replace"), os.WEXITSTATUS(status)
    if code and "hook" in spec:
        text = f"command '{' '.join(spec['command'])}' exited with {code}: , message: {text!r}"
    return FAILURE if code else SUCCESS, text


def _join(
    argv: Sequence[str], target: command.Target, streams: tuple[int, int, int], complaint: int, parent: int
) -> NoReturn:
    def complain(text: str) -> None:
        os.write(complaint, text.encode("utf-8", "replace")[:TEXT_LIMIT])

    code = command.FAILED_TO_RUN
    try:
        _die_with(parent)
        code = command.run(target, list(argv), lambda: streams, complain, (streams[0], streams[1], complaint))
    except (OSError, PodlabError) as error:
        complain(str(error) or repr(error))
    finally:
        os._exit(code)


def _await(ended: int, output: int, seconds: float) -> tuple[bytes, bool]:
    """What the command writes until it has ended, at most OUTPUT_LIMIT bytes, and whether that was in time."""
    os.set_blocking(output, False)
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(output, select.POLLIN)
    said = b""
    while True:
        ready = [fd for fd, _ in poll.poll(max(0.0, (deadline - time.monotonic()) * 1000))]
        if ended in ready:
            return _drain(output, said), True
        # A command that never stops writing is late, too.
        if time.monotonic() >= deadline:
            return said, False
        data = os.read(output, _CHUNK) if ready else b""
        if ready and not data:
            poll.unregister(output)
        said = (said + data)[:OUTPUT_LIMIT]


def _drain(fd: int, said: bytes) -> bytes:
    """What is in a pipe by now; who else may still write to it is not waited for."""
    os.set_blocking(fd, False)
    while len(said) < OUTPUT_LIMIT:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            break
        if not data:
            break
        said += data
    return said[:OUTPUT_LIMIT]


def _kill_all() -> None:
    """No process of ours is left behind: an orphan would become the supervisor's."""
    while True:
        for pid in process.children(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


# -- the network ----------------------------------------------------------------------------------------------------


def _network(spec: Mapping[str, Any], address: str, write: int) -> Answer:
    if spec.get("scheme") == "HTTPS" or spec.get("tls"):
        _ssl()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, spec["timeout"])
    if spec["kind"] == "tcp":
        return _tcp(spec, address)
    if spec["kind"] == "grpc":
        return _grpc(spec, address, write)
    return _http(spec, address)


def _tcp(spec: Mapping[str, Any], address: str) -> Answer:
    try:
        _connect(spec["host"] or address, spec["port"]).close()
    except OSError as error:
        return FAILURE, str(error.strerror or error)
    return SUCCESS, ""


def _connect(host: str, port: int) -> socket.socket:
    """A connection. Raises OSError with Go's words, as the kubelet shows them."""
    where = probe_http.authority(host, port)
    try:
        family, _, _, _, place = socket.getaddrinfo(host.encode(), port, 0, socket.SOCK_STREAM)[0]
        made = socket.socket(family, socket.SOCK_STREAM)
        # As the kubelet's: of probes that come often no connection is to wait for a minute after its end.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1))
        made.connect(place)
    except socket.gaierror as error:
        raise OSError(0, f"dial tcp: lookup {host}: no such host") from error
    except OSError as error:
        what = os.strerror(error.errno or 0).lower()
        raise OSError(error.errno, f"dial tcp {where}: connect: {what}") from error
    return made


def _http(spec: Mapping[str, Any], address: str) -> Answer:
    request = probe_http.first(spec, address)
    while True:
        try:
            status, location = probe_http.parse(_ask(request))
        except (OSError, ValueError) as error:
            if "hook" in spec and request.scheme == "https" and getattr(error, "reason", "") == "WRONG_VERSION_NUMBER":
                request = probe_http.without_tls(request)
                continue
            return FAILURE, f'Get "{request.url}": {getattr(error, "strerror", "") or error}'
        following = probe_http.follow(request, status, location)
        if isinstance(following, str):
            return FAILURE, f'Get "{location}": {following}'
        if following is None:
            # A hook has been run when there was an answer, whatever it says.
            return (SUCCESS, "") if "hook" in spec else probe_http.judge(status)
        request = following


def _grpc(spec: Mapping[str, Any], address: str, write: int) -> Answer:
    """The call. Until there is an HTTP/2 server it is tried again, as grpc-go's: the time that is up says so."""
    while True:
        call = probe_grpc.Call(spec, address)
        try:
            plain = _connect(address, spec["port"])
            with _ssl("h2")(plain, address) if spec["tls"] else plain as connection:
                connection.sendall(call.hello())
                return _talk(call, connection, write)
        except (OSError, ValueError) as error:
            if call.connected:
                return call.broken(str(error))
        time.sleep(_GRPC_AGAIN)


def _talk(call: probe_grpc.Call, connection: socket.socket, write: int) -> Answer:
    while True:
        data = connection.recv(_CHUNK)
        if not data and call.connected:
            return call.ended()
        if not data:
            raise OSError(0, "EOF")
        before, replies = call.connected, call.feed(data)
        if call.connected and not before:
            # Who kills us when the time is up cannot ask us any more how far we had come.
            os.write(write, _CONNECTED)
        if call.answer:
            return call.answer
        connection.sendall(replies)


def _ask(request: probe_http.Request) -> bytes:
    """The head of the response. What comes after it says nothing to a probe."""
    connection = _connect(request.host, request.port)
    if request.scheme == "https":
        connection = _ssl()(connection, request.host)
    with connection:
        connection.sendall(request.head())
        said = b""
        while not (head := probe_http.whole(said)):
            if len(said) >= probe_http.HEAD_LIMIT:
                raise OSError(0, f"net/http: server response headers exceeded {probe_http.HEAD_LIMIT} bytes; aborted")
            data = connection.recv(_CHUNK)
            if not data and said.startswith(b"HTTP/1."):
                raise OSError(0, "net/http: HTTP/1.x transport connection broken: unexpected EOF")
            if not data:
                break
            said += data
    if not said:
        raise OSError(0, "EOF")
    return head or said


def _ssl(*protocols: str) -> Callable[[socket.socket, str], socket.socket]:
    """Python's TLS without verification, as the kubelet's: loaded here, in the child, because it is large."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(protocols or ("http/1.1",))
    return lambda connection, host: context.wrap_socket(connection, server_hostname=host)

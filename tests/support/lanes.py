"""Two test files at once, of those whose tests touch nothing but what they make for themselves (mark own_machine).

The session that was started stays the one that chooses the tests and reports them, in their order. Each such file is
run by a pytest of its own, a lane, which tells the session what came of every test. Lanes run while the session itself
has nothing: not before what its own tests have made is gone, and to their end before its next own test.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

MARK = "own_machine"
LANES = 2
# In a lane's environment: the file descriptor that it tells its reports to.
TOLD = "PODLAB_TEST_LANE"

# Parts, which are files or several that must not run beside each other, and the tests of each.
Block = dict[str, list[str]]


def register(config: pytest.Config, lanes: int | None = None) -> None:
    """Make this pytest a lane when a session has started it as one, else a session with so many lanes."""
    told = os.environ.pop(TOLD, "")
    number = min(LANES, len(os.sched_getaffinity(0))) if lanes is None else lanes
    config.pluginmanager.register(Lane(config, int(told)) if told else Session(config, number))


def marked(item: pytest.Item) -> bool:
    """Whether the test is one that may run beside others."""
    return item.get_closest_marker(MARK) is not None


def may_go_beside(item: pytest.Item) -> bool:
    """Whether there is anything to run of a test that may run beside others."""
    return marked(item) and not item.get_closest_marker("skip")


def part_of(item: pytest.Item) -> str:
    """The part that the test belongs to: what its mark says, else its file."""
    mark = item.get_closest_marker(MARK)
    return str(mark.args[0]) if mark and mark.args else item.path.name


def in_turn(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The tests with the longest part of each block first: its lanes then end together. Many tests are a long part.

    They are reported in the order in which they are begun, so that there is always something to be seen.
    """
    sizes = collections.Counter(map(part_of, filter(marked, items)))
    found: list[pytest.Item] = []
    for _, block in itertools.groupby(items, marked):
        found += sorted(block, key=lambda item: (-sizes[part_of(item)], part_of(item)) if marked(item) else ())
    return found


class Lane:
    """Plugin of a lane: every report is a line of JSON for the session."""

    def __init__(self, config: pytest.Config, told: int) -> None:
        self.config = config
        # Nothing that a test starts may hold the session up.
        os.set_inheritable(told, False)
        self.told = os.fdopen(told, "w", encoding="utf-8")
        # Whoever runs the tests in the background has them ignore what a session ends its lanes by.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        print(json.dumps(data), file=self.told, flush=True)


class Session:
    """Plugin of a session: starts lanes, reports what they say."""

    def __init__(self, config: pytest.Config, lanes: int) -> None:
        self.config = config
        self.lanes = lanes
        self.pool = concurrent.futures.ThreadPoolExecutor(max(lanes, 1))
        self.begun: list[concurrent.futures.Future[None]] = []
        # Tests of lanes, by the block that they are of: all between two tests of the session's own.
        self.block_of: dict[str, Block] = {}
        # What a lane says of each test, and None when it says no more of it.
        self.said: dict[str, queue.SimpleQueue[Any]] = {}
        self.running: set[subprocess.Popen[str]] = set()
        self.output: dict[str, str] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Choose the tests for lanes. None when somebody wants to look on; no block that has but one part."""
        option = self.config.option
        if option.collectonly or option.usepdb or option.capture == "no" or self.lanes < 2:
            return
        for beside, items in itertools.groupby(session.items, may_go_beside):
            block: Block = {}
            for item in items if beside else ():
                block.setdefault(part_of(item), []).append(item.nodeid)
            if len(block) > 1:
                self.block_of.update((nodeid, block) for nodeids in block.values() for nodeid in nodeids)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Report a test of a lane; before the first of them end what the session's own tests have made."""
        beside = item.nodeid in self.block_of
        last = nextitem is not None and nextitem.nodeid in self.block_of
        if not beside:
            concurrent.futures.wait(self.begun)
            if not last:
                return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        if beside:
            self._report(item)
        else:
            runtestprotocol(item, nextitem=None)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _report(self, item: pytest.Item) -> None:
        if item.nodeid not in self.said:
            self._start(self.block_of[item.nodeid])
        done = False
        for data in iter(self.said[item.nodeid].get, None):
            report = self.config.hook.pytest_report_from_serializable(config=self.config, data=data)
            if isinstance(report.longrepr, list):
                report.longrepr = tuple(report.longrepr)  # why it was skipped: JSON has no tuples
            item.ihook.pytest_runtest_logreport(report=report)
            done = done or report.when == "teardown"
        if not done:
            text = f"the pytest of {part_of(item)} ended before this test did:\n{self.output[part_of(item)]}"
            report = pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")
            item.ihook.pytest_runtest_logreport(report=report)

    def _start(self, block: Block) -> None:
        self.said.update((nodeid, queue.SimpleQueue()) for nodeids in block.values() for nodeid in nodeids)
        for part, nodeids in block.items():
            self.begun.append(self.pool.submit(self._run, part, nodeids))

    def _run(self, part: str, nodeids: list[str]) -> None:
        """Run the tests of one part in a lane (in a thread of the session)."""
        option = self.config.option
        words = [f"--tb={option.tbstyle}", "-p", "no:cacheprovider", *(["--showlocals"] if option.showlocals else [])]
        for name in option.plugins:
            words += ["-p", name]
        try:
            read, write = os.pipe()
            with tempfile.TemporaryFile("w+") as output, open(read, encoding="utf-8") as told:
                try:
                    process = subprocess.Popen(
                        [sys.executable, "-m", "pytest", *words, *nodeids],
                        env={**os.environ, TOLD: str(write)},
                        cwd=self.config.rootpath,
                        pass_fds=[write],
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        text=True,
                    )
                finally:
                    os.close(write)
                with process:
                    self.running.add(process)
                    for line in told:
                        data = json.loads(line)
                        self.said[data["nodeid"]].put(data)
                        if data["when"] == "teardown":
                            self.said[data["nodeid"]].put(None)
                    process.wait()
                self.running.discard(process)
                output.seek(0)
                self.output[part] = f"exit code {process.returncode}\n{output.read()}"
        finally:
            for nodeid in nodeids:
                self.output.setdefault(part, "it could not be started")
                self.said[nodeid].put(None)

    def pytest_sessionfinish(self) -> None:
        """End what still runs (after Ctrl-C, or a first failure with -x): it takes down what it has made."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in list(self.running):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        self.pool.shutdown()

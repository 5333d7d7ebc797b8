"""The C floor makes whole pods and leaves nothing behind."""

from __future__ import annotations

import pytest

from podlab.cli import yardsticks
from podlab.runtime.pause import compiler
from support.snapshot import Snapshot

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not compiler(), reason="no C compiler on this machine"),
]


def test_the_floor(podlab_roots: object, unchanged_host: Snapshot) -> None:
    made, removed = yardsticks.floor(3)
    assert 0 < made < 1000
    assert 0 < removed < 1000

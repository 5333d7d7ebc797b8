"""The lab floor's one lab: `up` before the first test that asks for it, `down` after the last, nothing left."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support import lab as labs
from support import snapshot


@pytest.fixture(scope="session")
def lab() -> Iterator[labs.Lab]:
    """The default lab under a name of this run's own. The machine afterwards is the machine before."""
    before = snapshot.take()
    with labs.made(f"floor{os.getpid()}") as made:
        yield made
    snapshot.assert_same(before, snapshot.take())

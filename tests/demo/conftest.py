"""The demo floor's machine, and what every lesson leaves behind: nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import snapshot
from support.machine import Machine, machine


@pytest.fixture(scope="session")
def there() -> Iterator[Machine]:
    """A machine for all lessons: images are made once."""
    with machine() as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_is_left(there: Machine) -> Iterator[None]:
    """Neither on the machine nor in the place where labs are."""
    before = there.snapshot()
    yield
    snapshot.assert_same(before, there.snapshot())
    labs = there.path("/run/podlab")
    assert not labs.exists() or not [entry.name for entry in labs.iterdir() if entry.name.startswith("demo-")]

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


@pytest.fixture(scope="session")
def last_seen(there: Machine) -> list[snapshot.Snapshot]:
    """The machine as it was when it was last looked at: between two lessons nothing is done to it."""
    return [there.snapshot()]


@pytest.fixture(autouse=True)
def nothing_is_left(there: Machine, last_seen: list[snapshot.Snapshot]) -> Iterator[None]:
    """Neither on the machine nor in the place where labs are."""
    yield
    before = last_seen.pop()
    last_seen.append(there.snapshot())
    snapshot.assert_same(before, last_seen[0])
    labs = there.path("/run/podlab")
    assert not labs.exists() or not [entry.name for entry in labs.iterdir() if entry.name.startswith("demo-")]

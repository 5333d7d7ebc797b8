"""`top` on a terminal: the table again and again, until q or Ctrl-C."""

from __future__ import annotations

import contextlib
import select
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from . import top

SECONDS = 2.0
# The first figures come sooner: nobody looks at an empty screen.
FIRST_SECONDS = 0.5
ENDS = ("q", "Q", "\x1b", "\x04")
FOOT = "q ends"


def show(look: Callable[[], list[top.Sample]], before: Sequence[top.Sample], wanted: top.Asked) -> None:
    """Draw what look() sees, compared with what it saw before. Raises PodlabError as look does."""
    console = Console()
    try:
        with _keys(), Live(Text("..."), console=console, auto_refresh=False, screen=True) as live:
            seconds = FIRST_SECONDS
            while not _pressed(seconds):
                now = look()
                rows = top.table(top.usage(before, now, wanted), wanted)
                live.update(drawn(rows, console.size.height), refresh=True)
                before, seconds = now, SECONDS
    except KeyboardInterrupt:
        return


def drawn(rows: Sequence[Sequence[str]], height: int) -> Table:
    """The table, as much of it as the terminal has lines for."""
    header, *body = rows
    room = max(1, height - 2)
    table = Table(box=None, pad_edge=False, caption=FOOT, caption_justify="left", caption_style="dim")
    for title in header:
        right = title in ("CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)", "PIDS", "THROTTLED", "FOR")
        table.add_column(title, no_wrap=True, header_style="dim", justify="right" if right else "left")
    for row in body[:room]:
        table.add_row(*(Text(cell) for cell in row))
    return table


@contextlib.contextmanager
def _keys() -> Iterator[None]:
    """Keys come one by one and are not shown."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed(seconds: float) -> bool:
    """Wait so long for a key; whether one that ends it was pressed."""
    if not select.select([sys.stdin], [], [], seconds)[0]:
        return False
    key = sys.stdin.read(1)
    return key in ENDS or not key

"""invoke's tasks as the project's commands: words like kubectl's, short flags by name, one way to fail.

invoke knows neither optional nor repeated words (`get pods`, `get pods web-1`, `validate a.yaml b.yaml`), takes short
flags by chance and joins what follows `--` with blanks. A Command makes these four as users of kubectl expect them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.parser.argument import Argument
from invoke.tasks import Task

from ..errors import PodlabError

# What a shell reports for a process that died of SIGPIPE: `./lab get pods | head -1`.
BROKEN_PIPE = 128 + 13


class Words(Argument):
    """Positional words: as many as were typed, none included."""

    def __init__(self, name: str, typed: int, text: str = "") -> None:
        super().__init__(names=(name,), kind=list, positional=True, help=text)
        self.typed = typed
        self.taken: list[str] = []

    @property
    def value(self) -> list[str] | None:
        """None while words are missing: that is how invoke's parser asks whether to take one more."""
        return None if len(self.taken) < self.typed else self.taken

    @value.setter
    def value(self, word: str) -> None:
        self.set_value(word)

    def set_value(self, value: Any, cast: bool = True) -> None:
        """Take one more word."""
        self.raw_value = value
        self.taken = [*self.taken, value]


class Command(Task):  # type: ignore[type-arg]
    """A task with explicit short flags, optionally with words, optionally for root only.

    words: name of the parameter that takes the words, "" for none.
    short: short flag of each parameter that has one, {"selector": "l"}.
    root: refuse to start without root.
    """

    def __init__(
        self,
        body: Callable[..., Any],
        *,
        words: str = "",
        short: Mapping[str, str] | None = None,
        root: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(body, auto_shortflags=False, **options)
        self.words = words
        self.short = dict(short or {})
        self.root = root

    @property
    def typed_name(self) -> str:
        """The command as a person types it."""
        return self.name.replace("_", "-")

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """invoke's arguments of the body's parameters, with our short flags and words."""
        arguments = super().get_arguments(ignore_unknown_help)
        for argument in arguments:
            if argument.name in self.short:
                argument.names = (*argument.names[:1], self.short[argument.name])
            # Else invoke would take the flag for the word that is missing: `exec --help`.
            argument.positional = argument.positional and not _asks_for_help(sys.argv[1:])
        if not self.words:
            return arguments
        others = [argument for argument in arguments if argument.name != self.words]
        helps = [argument.help for argument in arguments if argument.name == self.words]
        typed = count_words(_body(sys.argv[1:]), self.typed_name, others)
        return [Words(self.words, typed, helps[0] or ""), *others]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body; what is the user's to mend leaves as one message and a code."""
        if self.root and os.geteuid() != 0:
            raise Exit(f"podlab needs root for `{self.typed_name}`: run it with sudo", code=1)
        try:
            result = super().__call__(*args, **kwargs)
            sys.stdout.flush()
            return result
        except PodlabError as error:
            raise Exit(error.message, code=int(error.details.get("exit_code", 1))) from None
        except BrokenPipeError:
            # Python flushes once more on its way out: there must be something that takes it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise Exit(code=BROKEN_PIPE) from None


def _body(argv: Sequence[str]) -> Sequence[str]:
    return argv[: argv.index("--")] if "--" in argv else argv


def _asks_for_help(argv: Sequence[str]) -> bool:
    return bool({"--help", "-h"} & set(_body(argv)))


def count_words(argv: Sequence[str], command: str, arguments: Sequence[Argument]) -> int:
    """How many words follow the command that are neither flags nor the values of flags."""
    if command not in argv:
        return 0
    takes_value = {
        ("--" if len(name) > 1 else "-") + name: argument.takes_value
        for argument in arguments
        for name in argument.names
    }
    words = 0
    tokens = iter(argv[argv.index(command) + 1 :])
    for token in tokens:
        if token == "-" or not token.startswith("-"):
            words += 1
        elif _wants_next(token, takes_value):
            next(tokens, None)
    return words


def _wants_next(token: str, takes_value: Mapping[str, bool]) -> bool:
    """True when the token is a flag whose value is the next token."""
    if "=" in token:
        return False
    if token.startswith("--"):
        return takes_value.get(token, False)
    if takes_value.get(token[:2], False):
        return len(token) == 2
    return takes_value.get("-" + token[-1], False)


def remainder(context: Context) -> list[str]:
    """What was typed after `--`, word for word (invoke joins it with blanks, which loses quoting)."""
    argv = sys.argv[1:]
    words = list(argv[argv.index("--") + 1 :]) if "--" in argv else []
    return words if " ".join(words) == context.remainder else context.remainder.split()


def whole_number(text: str, flag: str, least: int = 0) -> int:
    """The flag's value as a number. Raises PodlabError when it is none, or less than `least`."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise PodlabError(f"{flag}: must be a whole number, {least} or more, not {text!r}")
    return number

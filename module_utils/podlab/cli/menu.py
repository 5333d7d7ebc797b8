"""invoke's tasks as the project's commands: words like kubectl's, short flags by name, one way to fail.

invoke knows neither optional nor repeated words (`get pods`, `get pods web-1`, `validate a.yaml b.yaml`), takes short
flags by chance and joins what follows `--` with blanks. A Command makes these four as users of kubectl expect them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NoReturn

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.parser.argument import Argument
from invoke.tasks import Task

from ..errors import PodlabError
from . import usage

# What invoke is called as; the commands there are, and what each does.
INVOKE = ("invoke", "inv")
NAMES: dict[str, str] = {}

LISTS = (["--list"], ["-l"])

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
        self.said = dict(self.help)
        NAMES[self.typed_name] = self.does

    @property
    def typed_name(self) -> str:
        """The command as a person types it."""
        return self.name.replace("_", "-")

    @property
    def does(self) -> str:
        """One line: what it is for."""
        return (self.__doc__ or "").partition("\n")[0]

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """invoke's arguments of the body's parameters, with our short flags and words.

        Raises Exit with this command's help, or with what is wrong, when a command line that is being read asks for it.
        """
        shape = self.shape(ignore_unknown_help)
        argv = sys.argv[1:]
        if os.path.basename(sys.argv[0]) in INVOKE:
            self._look_at(argv, shape)
        if not self.words:
            return list(shape.arguments)
        others = [one for one in shape.arguments if one.name != self.words]
        helps = [one.help for one in shape.arguments if one.name == self.words]
        words = usage.read(_after(argv, self.typed_name), others).words
        return [Words(self.words, len(words), helps[0] or ""), *others]

    def shape(self, ignore_unknown_help: bool | None = None) -> usage.Shape:
        """The command as a person sees it."""
        # invoke forgets the help texts that it was asked for.
        self.help = dict(self.said)
        arguments = super().get_arguments(ignore_unknown_help)
        for argument in arguments:
            if argument.name in self.short:
                argument.names = (*argument.names[:1], self.short[argument.name])
        return usage.Shape(self.typed_name, self.does, self.root, self.words, arguments)

    def _look_at(self, argv: Sequence[str], shape: usage.Shape) -> None:
        """End with help, or with what is wrong: invoke takes its own options anywhere, and says little of others."""
        asked = usage.asks_for_help(argv)
        if asked == self.typed_name or list(argv) in LISTS:
            _tell(usage.help_text(shape) if asked else usage.menu(NAMES))
        first = asked or (argv[0] if argv else "-")
        if not first.startswith("-") and first not in NAMES:
            raise Exit(usage.no_command(first, NAMES), code=1)
        # Several commands in one line are invoke's to tell apart: `./lab down up`.
        several = not self.words and NAMES.keys() & set(usage.body(argv)[1:])
        if first != self.typed_name or asked or several:
            return
        others = [one for one in shape.arguments if one.name != self.words]
        wrong = usage.mistake(shape, usage.read(_after(argv, first), others))
        if wrong:
            raise Exit(wrong, code=1)

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
            _nobody_reads()


def _tell(text: str) -> NoReturn:
    """Print it and end."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _nobody_reads()
    raise Exit(code=0)


def _nobody_reads() -> NoReturn:
    """End as a process that died of SIGPIPE."""
    # Python flushes once more on its way out: there must be something that takes it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    raise Exit(code=BROKEN_PIPE) from None


def _after(argv: Sequence[str], command: str) -> Sequence[str]:
    """What was typed after the command, up to `--`; nothing when it was not typed."""
    tokens = usage.body(argv)
    return tokens[tokens.index(command) + 1 :] if command in tokens else ()


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

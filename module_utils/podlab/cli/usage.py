"""How a command is called: its usage and help, and what a person typed that it does not know."""

from __future__ import annotations

import difflib
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from invoke.parser.argument import Argument

# What a command needs besides its words, and what follows `--`, which invoke does not know of.
REQUIRED = {"apply": "-f FILE", "debug": "--image IMAGE", "scale": "--replicas N"}
AFTER = {
    "exec": "-- COMMAND [ARG...]",
    "debug": "[-- COMMAND [ARG...]]",
    "capture": "[-- TCPDUMP-OPTION...]",
    "test": "[-- PYTEST-ARG...]",
}
# What people type who know kubectl, kind or make, and what does it here.
ALIKE = {
    "describe": "get TYPE NAME -o yaml",
    "create": "apply -f FILE",
    "start": "up",
    "stop": "down",
    "destroy": "down",
    "tcpdump": "capture",
    "help": "COMMAND --help",
}
HELP = ("--help", "-h")


class Typed(NamedTuple):
    """What follows a command: its words, the options that it has, and the first that it does not have."""

    words: list[str]
    named: list[Argument]
    unknown: str = ""


class Shape(NamedTuple):
    """A command as a person sees it. repeated: name of the words that may be as many as one likes, or empty."""

    name: str
    does: str
    root: bool
    repeated: str
    arguments: Sequence[Argument]

    @property
    def words(self) -> list[Argument]:
        """What is typed without a flag. (-f may be repeated: invoke has it among the words, but it takes none.)"""
        every = [one for one in self.arguments if one.name == self.repeated or one.positional]
        return [one for one in every if one.kind is not list or one.name == self.repeated]

    @property
    def options(self) -> list[Argument]:
        """What is typed with a flag, by name."""
        words = self.words
        return sorted((one for one in self.arguments if one not in words), key=lambda one: str(one.name))

    @property
    def usage(self) -> str:
        """One line: what to type."""
        words = [f"[{word(one)}...]" if one.name == self.repeated else word(one) for one in self.words]
        parts = ["./lab", self.name, *words, REQUIRED.get(self.name, ""), "[OPTION...]", AFTER.get(self.name, "")]
        return " ".join(filter(None, parts))

    @property
    def purpose(self) -> str:
        """One line: what it does, and whether root is needed."""
        return f"{self.does}. {'Needs root.' if self.root else 'Needs no root.'}"


def word(argument: Argument) -> str:
    """A word or a value as usage lines name it."""
    return str(argument.name).replace("_", "-").upper()


def flags(argument: Argument) -> list[str]:
    """How an option is typed, the short form first."""
    if argument.kind is bool and argument.default is True:
        return [f"--[no-]{argument.name}"]
    names = {name.replace("_", "-") for name in argument.names}
    return sorted((f"{'--' if len(name) > 1 else '-'}{name}" for name in names), key=len)


def help_text(shape: Shape) -> str:
    """What `./lab COMMAND --help` prints."""
    rows = [(word(one), one.help) for one in shape.words]
    rows += [(", ".join(flags(one)) + (f" {word(one)}" if one.takes_value else ""), one.help) for one in shape.options]
    width = max((len(left) for left, _ in rows), default=0)
    lines = [line for left, text in rows for line in _folded(left, text or "", width)]
    return "\n".join([f"Usage: {shape.usage}", "", shape.purpose, *([""] if rows else []), *lines]) + "\n"


def _folded(left: str, text: str, width: int) -> list[str]:
    room = max(20, shutil.get_terminal_size().columns - width - 6)
    first, *more = textwrap.wrap(text, room) or [""]
    return [f"  {left:{width}}  {first}".rstrip(), *(" " * (width + 4) + line for line in more)]


def menu(commands: Mapping[str, str]) -> str:
    """What `./lab` and `./lab --list` print. commands: name -> what it does."""
    width = max(map(len, commands))
    rows = [f"  {name:{width}}   {does}" for name, does in sorted(commands.items())]
    return (
        "\n".join(["Usage: ./lab COMMAND [OPTION...]", "", *rows, "", "./lab COMMAND --help tells more of it."]) + "\n"
    )


def body(argv: Sequence[str]) -> Sequence[str]:
    """What stands before `--`: the command's own words and options."""
    return argv[: argv.index("--")] if "--" in argv else argv


def asks_for_help(argv: Sequence[str]) -> str:
    """The command whose help is asked for: `get --help`, `--help get`, `help get`; "" when none is."""
    words = [token for token in body(argv) if token not in HELP]
    if len(words) < len(body(argv)):
        return words[0] if words else ""
    return words[1] if words[:1] == ["help"] and len(words) > 1 else ""


def read(tokens: Iterable[str], arguments: Iterable[Argument]) -> Typed:
    """Tell words, options and values of options apart in what follows a command."""
    known = {flag: one for one in arguments for flag in _accepted(one)}
    words: list[str] = []
    named: list[Argument] = []
    rest = iter(tokens)
    for token in rest:
        if token == "-" or not token.startswith("-"):
            words.append(token)
            continue
        for flag, value in _flags_of(token, known):
            if flag not in known:
                return Typed(words, named, flag)
            named.append(known[flag])
            if known[flag].takes_value and not value:
                next(rest, None)
    return Typed(words, named)


def _accepted(argument: Argument) -> list[str]:
    names = [f"{'--' if len(name) > 1 else '-'}{name.replace('_', '-')}" for name in argument.names]
    return [*names, f"--no-{argument.name}"] if argument.kind is bool and argument.default is True else names


def _flags_of(token: str, known: Mapping[str, Argument]) -> list[tuple[str, bool]]:
    """The flags of one token, and whether each has its value there: --name=x, -owide, -it."""
    if token.startswith("--"):
        flag, equals, _ = token.partition("=")
        return [(flag, bool(equals))]
    found = []
    for place, letter in enumerate(token[1:], 2):
        found.append((f"-{letter}", len(token) > place))
        if f"-{letter}" not in known or known[f"-{letter}"].takes_value:
            break
    return found


def no_command(name: str, names: Iterable[str]) -> str:
    """What to say of a command that there is not."""
    every = sorted(names)
    near = [one for one in every if one.startswith(name)] or difflib.get_close_matches(name, every, 3)
    did = ", ".join(near) or ALIKE.get(name, "")
    return f"There is no command {name!r}.{f' Did you mean {did}?' if did else ''} ./lab --list shows all"


def mistake(shape: Shape, typed: Typed) -> str:
    """What is wrong with what was typed: an option that there is not, a word too many or missing; else ""."""
    if typed.unknown:
        every = [flag for one in shape.options for flag in _accepted(one)]
        near = difflib.get_close_matches(typed.unknown, every, 1) if typed.unknown.startswith("--") else []
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"{shape.name}: there is no option {typed.unknown}.{hint} See ./lab {shape.name} --help"
    if shape.repeated:
        return ""
    free = [one for one in shape.words if one not in typed.named]
    if len(typed.words) > len(free):
        return f"{shape.name}: {typed.words[len(free)]!r} is one word too many. Usage: {shape.usage}"
    missing = [word(one) for one in free[len(typed.words) :]]
    verb = "is" if len(missing) == 1 else "are"
    return f"{shape.name}: {' and '.join(missing)} {verb} missing. Usage: {shape.usage}" if missing else ""

"""The way in for kind's cluster config: text to a checked Config, with every problem at once."""

from __future__ import annotations

from ..errors import Problem
from .kind_lints import lint
from .kind_parse import parse
from .kind_support import limits
from .kind_types import Config
from .kind_validate import validate


def load(text: str, file: str, name: str | None = None) -> tuple[Config, list[Problem]]:
    """Read a kind config: parse, fill in defaults, validate as kind does, look for what kind does not, and for
    what podlab cannot.

    text: the file's content. file: how messages name it. name: wins over the file's (KIND_CLUSTER_NAME, --name).
    Returns the config and every problem, errors and warnings, in the order of kind's own checks. The config is fit
    for use when no problem has the level "error" (errors.refuse raises otherwise). Controller only: needs PyYAML.
    """
    config, report = parse(text, file)
    if report.readable:
        if name:
            config = config._replace(name=name)
            report.foreign.add(("name",))
        validate(config, report)
        lint(config, report)
        limits(config, report)
    return config, report.problems

"""Kubernetes resource quantities: "100m", ".1", "1Gi", "1e3". Exact arithmetic, no floats."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

# apimachinery pkg/api/resource/quantity.go and suffix.go
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_FORM = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]?|[eE][+-]?\d{1,3})", re.ASCII)
# No value may be beyond 2^63 - 1, the largest a quantity can hold.
LARGEST = 2**63 - 1


def parse(value: Any) -> Fraction:
    """The exact value of a quantity given as text or as a YAML number.

    Raises ValueError saying what is wrong with it.
    """
    text = value if isinstance(value, str) else _number_text(value)
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"must be a quantity such as 100m, 0.5, 64Mi or 1G, not {value!r}")
    sign, digits, suffix = found.groups()
    number = Fraction(digits + "0" if digits.endswith(".") else digits)
    if suffix in _BINARY:
        number *= 2 ** _BINARY[suffix]
    elif suffix in _DECIMAL:
        number *= Fraction(10) ** _DECIMAL[suffix]
    else:
        number *= Fraction(10) ** int(suffix[1:])
    if number > LARGEST:
        raise ValueError(f"must not be larger than 2^63 - 1, but {value!r} is")
    return -number if sign == "-" else number


def milli(value: Any) -> int:
    """The quantity in thousandths, rounded up (Quantity.MilliValue): CPU "0.1" is 100."""
    return _ceil(parse(value) * 1000)


def whole(value: Any) -> int:
    """The quantity in units, rounded up (Quantity.Value): memory "1Ki" is 1024 bytes."""
    return _ceil(parse(value))


def _ceil(number: Fraction) -> int:
    return -(-number.numerator // number.denominator)


def _number_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"must be a quantity such as 100m, 0.5, 64Mi or 1G, not {value!r}")
    return repr(value)

"""Quantities, against the forms and the rounding of apimachinery's resource.Quantity."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.kube import quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", Fraction(0)),
        ("100m", Fraction(1, 10)),
        (".1", Fraction(1, 10)),
        (0.1, Fraction(1, 10)),
        (1, Fraction(1)),
        ("1.", Fraction(1)),
        ("1.5", Fraction(3, 2)),
        ("64Mi", Fraction(64 * 2**20)),
        ("1G", Fraction(10**9)),
        ("1E", Fraction(10**18)),
        ("1e3", Fraction(1000)),
        ("12E2", Fraction(1200)),
        ("1e-3", Fraction(1, 1000)),
        ("+2k", Fraction(2000)),
        ("-1", Fraction(-1)),
        ("5n", Fraction(5, 10**9)),
    ],
)
def test_value(text, value):
    assert quantity.parse(text) == value


@pytest.mark.parametrize(
    "text", ["", "m", "1 Gi", "1gi", "1K", "0x10", "1e", "1.2.3", "Mi", ".", "1Gi\n", True, None, [1], "١"]
)
def test_refused(text):
    with pytest.raises(ValueError, match="must be a quantity"):
        quantity.parse(text)


def test_beyond_the_largest():
    with pytest.raises(ValueError, match="must not be larger"):
        quantity.parse("8Ei")


@pytest.mark.parametrize(("text", "milli", "whole"), [("0.1", 100, 1), ("1m", 1, 1), ("1500u", 2, 1), ("2", 2000, 2)])
def test_rounding_is_up(text, milli, whole):
    assert (quantity.milli(text), quantity.whole(text)) == (milli, whole)


@given(st.integers(0, 2**50))
def test_whole_numbers_are_exact(number):
    assert quantity.whole(str(number)) == quantity.whole(number) == number
    assert quantity.milli(f"{number}m") == number

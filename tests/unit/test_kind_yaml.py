"""The strict YAML reader: values as kubectl reads them, lines, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from podlab.errors import PodlabError
from podlab.kube.yamltree import load_documents, path_text


def value(text: str) -> Any:
    """The value of a single scalar."""
    return load_documents(f"v: {text}\n", "f")[0].data["v"]


def faults(text: str) -> list[str]:
    """What is wrong with the text."""
    with pytest.raises(PodlabError) as caught:
        load_documents(text, "f")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("-7", -7),
        ("+7", 7),
        ("0", 0),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("-017", -15),
        ("0b101", 5),
        ("1_000", 1000),
        ("08", 8),
        ("18446744073709551615", 18446744073709551615),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.0", 1),
        ("1e3", 1000),
        ("-2.5e-1", -0.25),
        ("true", True),
        ("yes", True),
        ("y", True),
        ("On", True),
        ("no", False),
        ("N", False),
        ("OFF", False),
        ("yEs", "yEs"),
        ("~", None),
        ("null", None),
        ("", None),
        ("nULL", "nULL"),
        ("2001-01-01", "2001-01-01"),
        ("2001-01-01T00:00:00Z", "2001-01-01T00:00:00Z"),
        ("1:30", "1:30"),
        ("10m", "10m"),
        ("1.2.3", "1.2.3"),
        ("_1", "_1"),
        ("0x", "0x"),
        (".", "."),
        ("'1'", "1"),
        ('"yes"', "yes"),
        ("'~'", "~"),
        ("! 1", "1"),
        ("!!str 1", "1"),
        ("!!int '1'", 1),
        ("!!float 1", 1),
        ("!!null ''", None),
        ('"a\\/b"', "a/b"),
    ],
)
def test_values(text: str, expected: Any) -> None:
    found = value(text)
    assert (found, type(found)) == (expected, type(expected))


def test_keys_become_text() -> None:
    assert load_documents("1: a\nyes: b\n1.5: c\n'2': d\n", "f")[0].data == {
        "1": "a",
        "true": "b",
        "1.5": "c",
        "2": "d",
    }


def test_merge_keys_and_anchors() -> None:
    text = "base: &b {w: 1, x: 2}\nmore: &m {x: 3, z: 4}\nmade:\n  w: 0\n  <<: [*b, *m]\n"
    assert load_documents(text, "f")[0].data["made"] == {"w": 0, "x": 2, "z": 4}
    assert load_documents("a: {'<<': 1}\n", "f")[0].data == {"a": {"<<": 1}}


def test_empty_documents_are_left_out() -> None:
    documents = load_documents("---\n# one\n---\na: 1\n---\n---\nb: 2\n...\n---\n", "f")
    assert [document.data for document in documents] == [{"a": 1}, {"b": 2}]
    assert [document.line() for document in documents] == [4, 7]
    assert load_documents("", "f") == []


def test_lines_are_those_of_keys_and_items() -> None:
    document = load_documents(
        "---\nx: 1\n---\n# about\nspec:\n  containers:\n  - name: a\n    image:\n      b\n  - name: c\n", "f"
    )[1]
    paths: dict[int, tuple[Any, ...]] = {
        5: ("spec",),
        6: ("spec", "containers"),
        7: ("spec", "containers", 0, "name"),
        8: ("spec", "containers", 0, "image"),
        10: ("spec", "containers", 1),
    }
    assert {document.line(path): path for path in paths.values()} == paths
    assert document.line(("spec", "containers", 1, "command", 3)) == 10
    assert document.line(("nothing",)) == 5


def test_a_fault_in_one_document_hides_none_in_another() -> None:
    found = faults("a: 1\na: 2\n---\nb: [1\n---\nc: !!python/object/apply:os.system ['id']\n---\nd: x: y\n")
    assert [fault.split(": ")[0] for fault in found] == ["f:2", "f:5", "f:6", "f:8"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 1\n", "the key is there twice, first in line 1"),
        ("1: a\n'1': b\n", "the key is there twice, first in line 1"),
        ("true: a\nyes: b\n", "the key is there twice"),
        ("a: !!python/object:x y\n", "the tag !!python/object:x is not allowed"),
        ("a: !vault x\n", "the tag !vault is not allowed"),
        ("a: !!binary aGk=\n", "the tag !!binary is not allowed"),
        ("a: !!set {x}\n", "the tag !!set is not allowed"),
        ("a: !!int x\n", "'x' is not of the type !!int"),
        ("~: x\n", "null cannot be a key"),
        ("v: {{ 7*7 }}\n", "a list or mapping cannot be a key"),
        ("[a]: x\n", "a list or mapping cannot be a key"),
        ("a: .inf\n", "no JSON form"),
        ("a: .nan\n", "no JSON form"),
        ("a: *b\n", "*b stands for nothing"),
        ("a: &a [*a]\n", "*a is used inside what it stands for"),
        ("a: {<<: 1}\n", "map merge requires a map"),
        ("%YAML 1.2\n---\na: 1\n", "incompatible YAML document"),
        ("a:\n\t- b\n", "Indent with blanks, not with tabs"),
        ("a: b: c\n", "Quote a value that contains a colon"),
        ("a: 'b\n", "that begins in line 1"),
        ("a: \x07\n", "U+0007 is not allowed"),
    ],
)
def test_faults(text: str, words: str) -> None:
    found = faults(text)
    assert len(found) == 1 and words in found[0], found


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
@pytest.mark.parametrize("depth", [300, 100_000])
def test_nesting_without_end_is_a_fault_not_a_crash(opening: str, depth: int) -> None:
    assert "nested deeper than 200 levels" in faults(opening * depth)[0]


def test_a_few_anchors_cannot_stand_for_gigabytes() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "excessive aliasing" in faults("\n".join(lines))[0]


def test_json_with_tabs_is_yaml() -> None:
    assert load_documents('{\n\t"a": ["b\\tc",\n\t1]\n}\n', "f")[0].data == {"a": ["b\tc", 1]}


def test_windows_line_ends_and_a_byte_order_mark() -> None:
    assert load_documents("\ufeffa: 1\r\n---\r\nb: 2\r\n", "f")[1].data == {"b": 2}


def test_the_pure_python_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &x [1, 'two', \"three\"]\nb: {<<: {c: ~}, d: *x}\n---\ne: |\n  f\n"
    with_c = [(document.data, document.lines) for document in load_documents(text, "f")]
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    assert [(document.data, document.lines) for document in load_documents(text, "f")] == with_c


def test_path_text() -> None:
    assert path_text(("spec", "containers", 0, "name")) == "spec.containers[0].name"
    assert path_text(("metadata", "labels", "example.com/a")) == "metadata.labels['example.com/a']"
    assert path_text(()) == ""

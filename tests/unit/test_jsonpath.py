"""kubectl's JSONPath: the documentation's examples, client-go's behaviour, clear errors."""

from __future__ import annotations

import pytest

from podlab.errors import PodlabError
from podlab.kube import jsonpath

# The object of kubernetes.io/docs/reference/kubectl/jsonpath.
DOCS = {
    "kind": "List",
    "items": [
        {
            "kind": "None",
            "metadata": {"name": "127.0.0.1", "labels": {"kubernetes.io/hostname": "127.0.0.1"}},
            "status": {
                "capacity": {"cpu": "4"},
                "ready": True,
                "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.1"}],
            },
        },
        {
            "kind": "None",
            "metadata": {"name": "127.0.0.2"},
            "status": {
                "capacity": {"cpu": "8"},
                "ready": False,
                "addresses": [
                    {"type": "LegacyHostIP", "address": "127.0.0.2"},
                    {"type": "another", "address": "127.0.0.3"},
                ],
            },
        },
    ],
    "users": [
        {"name": "myself", "user": {}},
        {"name": "e2e", "user": {"username": "admin", "password": "secret"}},
    ],
}

FROM_THE_DOCUMENTATION = [
    ("kind is {.kind}", "kind is List"),
    ("{['kind']}", "List"),
    ("{..name}", "127.0.0.1 127.0.0.2 myself e2e"),
    ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
    ("{.users[0].name}", "myself"),
    ("{.items[*]['metadata.name', 'status.capacity']}", '127.0.0.1 127.0.0.2 {"cpu":"4"} {"cpu":"8"}'),
    ('{.users[?(@.name=="e2e")].user.password}', "secret"),
    (
        "{range .items[*]}[{.metadata.name}, {.status.capacity}] {end}",
        '[127.0.0.1, {"cpu":"4"}] [127.0.0.2, {"cpu":"8"}] ',
    ),
    ('{range .items[*]}{.metadata.name}{"\\t"}{end}', "127.0.0.1\t127.0.0.2\t"),
    ("{range .items[*]}{.metadata.name}{'\\n'}{end}", "127.0.0.1\n127.0.0.2\n"),
    (r"{.items[0].metadata.labels.kubernetes\.io/hostname}", "127.0.0.1"),
    (r"{.items[0].metadata.labels['kubernetes\.io/hostname']}", "127.0.0.1"),
]


@pytest.mark.parametrize(("template", "expected"), FROM_THE_DOCUMENTATION)
def test_examples_of_the_documentation(template: str, expected: str) -> None:
    assert jsonpath.render(template, DOCS) == expected


def test_the_current_object_is_the_whole_input() -> None:
    assert jsonpath.render("{@}", {"b": [1], "a": "x"}) == '{"a":"x","b":[1]}'
    assert jsonpath.render("{$.a}{@.b[0]}", {"b": [1], "a": "x"}) == "x1"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{range .items[*]}{.metadata.name}, {end}{.kind}", "127.0.0.1, 127.0.0.2, List"),
        ("{range .items[*]}{range .status.addresses[*]}{.address}, {end}{end}", "127.0.0.1, 127.0.0.2, 127.0.0.3, "),
        ("{range .items[*]}{.kind}{end}|{range .users[*]}{.name} {end}", "NoneNone|myself e2e "),
        ("{range .none[*]}{.x}{end}after", "after"),
        ("{range .none[*]}{range .more[*]}{.x}{end}{end}after", "after"),
        (r'{.items[?(@.metadata.labels.kubernetes\.io/hostname=="127.0.0.1")].kind}', "None"),
        ("{.items[?(@..ready==true)].metadata.name}", "127.0.0.1"),
        ("{.items[?(@.status.ready!=true)].metadata.name}", "127.0.0.2"),
        ("{.items[?(@.metadata.labels)].metadata.name}", "127.0.0.1"),
        ('{.items[?(@.status.capacity.cpu=~"[5-9]")].metadata.name}', "127.0.0.2"),
        ('{.items[?(@.metadata.name=="a)]b")].kind}', ""),
        ("{.items[-1].metadata.name}", "127.0.0.2"),
        ("{.items[*].status.ready}", "true false"),
        ("{.items[0].nothing.at.all}", ""),
        ("before-{.hello}after", "before-after"),
        ("{.users[1].user.*}", "admin secret"),
        ("{.users[*].user}", '{} {"password":"secret","username":"admin"}'),
        ('{"{"}{.kind}{"}"}', "{List}"),
        ('{.kind}{"\\u00e9\\x41\\\\\\""}', 'ListéA\\"'),
        ("{...name}", "127.0.0.1 127.0.0.2 myself e2e"),
        ("{ .kind }", "List"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_more_of_the_language(template: str, expected: str) -> None:
    assert jsonpath.render(template, DOCS) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{[0:2]}", "1 2"),
        ("{[:2]}", "1 2"),
        ("{[2:]}", "3 4"),
        ("{[:4:2]}", "1 3"),
        ("{[1::2]}", "2 4"),
        ("{[-2]}", "3"),
        ("{[-1:]}", "4"),
        ("{[1:1]}", ""),
        ("{[*]}", "1 2 3 4"),
        ("{[0,2,3]}", "1 3 4"),
        ("{[?(@<3)]}", "1 2"),
        ("{[?(@>=3)]}", "3 4"),
        ("{..}", "[1,2,3,4]"),
    ],
)
def test_lists(template: str, expected: str) -> None:
    assert jsonpath.render(template, [1, 2, 3, 4]) == expected


def test_a_list_that_is_empty_or_nothing_does_not_hide_the_others() -> None:
    data = {"items": [{"at": []}, {"at": None}, {"at": ["x"]}]}
    assert jsonpath.render("{.items[*].at[*]}", data) == "x"


def test_keys_that_look_like_keywords_are_keys() -> None:
    assert jsonpath.render("{.end}{.range}{.true}", {"end": "a", "range": "b", "true": "c"}) == "abc"


def test_values_as_kubectl_prints_them() -> None:
    assert jsonpath.render("{.*}", {"a": 1.0, "b": 2.25, "c": 1000000, "d": None, "e": "é"}) == "1 2.25 1000000 <nil> é"


ERRORS = [
    ("{.kind", "character 7: unclosed action, expected }"),
    ("{.items[0}", "unterminated array, expected ]"),
    ("{.items[?(@.x==1]}", "unterminated filter, expected )]"),
    ('{"abc}', "unterminated quoted string"),
    ("{kind}", 'unrecognized identifier kind. A key is written .kind, a text "kind"'),
    ("{.items[x]}", "invalid array index x"),
    ('{.items["x"]}', "a key in single quotes"),
    ("{.items[::0]}", "step must be > 0"),
    ("{.users[?(@.name<>1)]}", "unrecognized filter operator <>"),
    ('{.users[?(@.name=="a" && @.x=="b")]}', "unrecognized character in action: '&'"),
    ("{..................name}", "invalid multiple recursive descent"),
    ("{#}", "unrecognized character in action: '#'"),
    ("{1.2.3}", "cannot parse number 1.2.3"),
    ("{range .items[*]}{.kind}{end}{end}", "not in range, nothing to end"),
    ("{.items range}", "range must stand first in its braces"),
    ("{.items[5]}", "array index out of bounds: index 5, length 2"),
    ("{.items[-3]}", "array index out of bounds: index -1, length 2"),
    ("{.items[0:5]}", "array index out of bounds: index 4, length 2"),
    ("{.items[1:0]}", "starting index 1 is greater than ending index 0"),
    ("{.kind[0]}", "text is not a list"),
    ("{.items[0].metadata[0]}", "a map is not a list"),
    ('{.kind[?(@.x=="y")]}', "text is not a list and cannot be filtered"),
    ("{.users[?(@.name==1)]}", "cannot compare text myself == a number 1"),
    ('{.users[?(@.name=~"(")]}', "myself =~ (: "),
    ('{.items[?(@..address=="1")]}', "can only compare one element at a time"),
]


@pytest.mark.parametrize(("template", "message"), ERRORS)
def test_errors_say_what_and_where(template: str, message: str) -> None:
    with pytest.raises(PodlabError) as caught:
        jsonpath.render(template, DOCS)
    assert message in caught.value.message
    assert caught.value.message.startswith("jsonpath")

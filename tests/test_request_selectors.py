"""Selectors and numbers in a query: which names they give, and which are malformed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.request.selectors import is_int64, is_label_selector, required_name

MALFORMED = None


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ("", ""),
        (",,", ""),
        ("metadata.name=a", "a"),
        ("metadata.name==a", "a"),
        ("metadata.name!=a", ""),
        ("metadata.namespace=a", ""),
        ("metadata.name=b,metadata.name=a", "a"),
        ("metadata.name=a,metadata.name==z", "z"),
        ("metadata.name=z,metadata.name==a", "a"),
        ("metadata.name=,metadata.name=a", ""),
        ("metadata.name!=a,metadata.name=b", "b"),
        (" metadata.name=a", ""),
        ("metadata.name= a", " a"),
        ("a=b,,metadata.name=c,", "c"),
        (r"metadata.name=a\,b", "a,b"),
        (r"metadata.name=a\=b\\", "a=b\\"),
        (r"x=\\,metadata.name=c", "c"),
        ("metadata.name=.", ""),
        ("metadata.name=..", ""),
        ("metadata.name=...", "..."),
        ("metadata.name=a/b", ""),
        ("metadata.name=a%b", ""),
        ("=metadata.name", ""),
        ("a\nb=c", ""),
        ("garbage", MALFORMED),
        ("garbage,metadata.name=a", MALFORMED),
        ("metadata.name=a=b", MALFORMED),
        ("metadata.name===a", MALFORMED),
        ("metadata.name!==a", MALFORMED),
        (r"metadata.name=a\b", MALFORMED),
        ("metadata.name=a\\", MALFORMED),
        (r"a\,b", MALFORMED),
        ("!a", MALFORMED),
    ],
)
def test_field_selector(selector: str, name: str | None) -> None:
    assert required_name(selector) == name


@given(st.text().filter(lambda name: name not in {".", ".."} and not set(name) & set("/%")))
def test_an_escaped_name_is_found(name: str) -> None:
    escaped = name.replace("\\", r"\\").replace(",", r"\,").replace("=", r"\=")
    assert required_name(f"spec.nodeName!=n,metadata.name={escaped},a=b") == name


@given(st.text(), st.text("metadata.name=!\\,"))
def test_selectors_never_raise(text: str, spiced: str) -> None:
    required_name(text)
    required_name(spiced)
    is_label_selector(text)
    is_int64(text)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("0", True),
        ("-5", True),
        ("+5", True),
        ("007", True),
        ("9223372036854775807", True),
        ("9223372036854775808", False),
        ("-9223372036854775808", True),
        ("-9223372036854775809", False),
        ("0" * 5000 + "1", True),
        ("1" * 5000, False),
        ("", False),
        ("+", False),
        ("abc", False),
        ("5s", False),
        ("1_000", False),
        (" 1", False),
        ("1\n", False),
        ("0x1", False),
        ("\u0661", False),
    ],
)
def test_int64(text: str, *, valid: bool) -> None:
    assert is_int64(text) is valid


@pytest.mark.parametrize(
    "selector",
    [
        "",
        " \t\r\n",
        "a",
        "!a",
        "! a",
        "a=b",
        "a==b",
        "a!=b",
        "a = b",
        "a=",
        "a==",
        "a!=,b",
        "a,b,!c",
        "a in (b)",
        "a in(b,c)",
        "a notin ( b , c )",
        "a in ()",
        "a in (,)",
        "a in (,b)",
        "a in (b,)",
        "a in (b,,c)",
        "a in (,,b)",
        "a in (b,,,)",
        "a in (in,notin)",
        "in",
        "!in",
        "in in (in)",
        "notin notin (a)",
        "in=notin",
        "a>1",
        "a < 007",
        "a>1,2",
        "example.com/a=b",
        "a.b-c.example.com/A_b.c=D-e_f.g",
        "a\0",
        "a=b \0==",
        "x in (foo,,baz),y,z notin ()",
        f"{'k' * 63}={'v' * 63}",
        f"{'p' * 253}/k",
    ],
)
def test_well_formed_label_selector(selector: str) -> None:
    assert is_label_selector(selector)


@pytest.mark.parametrize(
    "selector",
    [
        ",",
        "a,",
        ",a",
        "a,,b",
        "=",
        "==",
        "a===b",
        "a=!b",
        "a!b",
        "!a=b",
        "!a in (b)",
        "!!a",
        "!",
        "a b",
        "a in",
        "a in b",
        "a in (b",
        "a in b)",
        "a in (b c)",
        "a in ((b))",
        "a in (=)",
        "a in (,,)",
        "a in (b,,)",
        "a IN (b)",
        "a>",
        "a>b",
        "a>-1",
        "a>+1",
        "a>=1",
        "a>9223372036854775808",
        "(a)",
        "a=(b)",
        "a=b=c",
        "/a",
        "a/",
        "a/b/c",
        "A.com/a",
        "-a",
        "a-",
        "a=-b",
        "a=b/c",
        "a in (b,-c)",
        "é",
        "a=é",
        "a=b\u00a0",
        "a\0b",
        "a,\0",
        f"{'k' * 64}",
        f"a={'v' * 64}",
        f"{'p' * 254}/k",
    ],
)
def test_malformed_label_selector(selector: str) -> None:
    assert not is_label_selector(selector)


KEYS = st.sampled_from(["a", "in", "notin", "example.com/tier", "A.b_c-9"])
VALUES = st.sampled_from(["b", "in", "9", "x.y_z-0"])
LISTS = st.lists(VALUES, min_size=1).map(",".join)
REQUIREMENTS = st.one_of(
    KEYS,
    st.builds("!{}".format, KEYS),
    st.builds("{} {} {}".format, KEYS, st.sampled_from(["=", "==", "!="]), VALUES),
    st.builds("{}{}{}".format, KEYS, st.sampled_from(["<", ">"]), st.integers(0, 2**63 - 1)),
    st.builds("{} {} ({})".format, KEYS, st.sampled_from(["in", "notin"]), LISTS),
)


@given(st.lists(REQUIREMENTS))
def test_requirements_joined_by_commas_are_well_formed(requirements: list[str]) -> None:
    assert is_label_selector(", ".join(requirements))
    assert not is_label_selector(", ".join([*requirements, "="]))

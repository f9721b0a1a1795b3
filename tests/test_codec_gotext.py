"""Go's quoted strings: what is escaped and how, and that nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.codec.gotext import quote, quote_list, split_list, unquote

BYTES = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"])
TEXTS = st.text(
    st.characters(codec="utf-8") | BYTES | st.sampled_from('"\\,\n\r\t\x00\x7f\x85\ufffd xuU')
)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("", '""'),
        ("plain text", '"plain text"'),
        ("日本é€🙂", '"日本é€🙂"'),
        ('say "x\\y"', r'"say \"x\\y\""'),
        ("\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        ("\0\x1b\x7f", r'"\x00\x1b\x7f"'),
        ("\x80\x9f\xa0\xad", r'"\u0080\u009f\u00a0\u00ad"'),
        ("\u200b\u2028\u3000\ufeff", r'"\u200b\u2028\u3000\ufeff"'),
        ("\ue000\U0010ffff\U000e0001", r'"\ue000\U0010ffff\U000e0001"'),
        ("\udc80\udcff", r'"\x80\xff"'),
        ("\ud800\udfff\udc7f", r'"\ufffd\ufffd\ufffd"'),
        ("\ufffd\n", '"\ufffd\\n"'),
        ("<a>&'b'", "\"<a>&'b'\""),
        ("\n日本", r'"\n日本"'),
    ],
)
def test_strings_print_as_in_go(text: str, quoted: str) -> None:
    assert quote(text) == quoted


def test_the_specification_example() -> None:
    text = "\a\v\u00a0\u200b\U0010ffff\u00ad日本"
    assert quote(text) == r'"\a\v\u00a0\u200b\U0010ffff\u00ad日本"'
    assert quote(quote_list(['a"b', ""])) == r'"\"a\\\"b\",\"\""'


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", ""),
        ("a b", "a b"),
        (r"\"", '"'),
        (r"\\\"", '\\"'),
        (r"\\n", r"\n"),
        (r"\xC3\xa9", "\udcc3\udca9"),  # as Go would only write for broken UTF-8
        (r"\x41\u0041\U00000041", "AAA"),
        (r"\ufffd", "\ufffd"),
    ],
)
def test_quoted_strings_are_read(body: str, text: str) -> None:
    assert unquote(body) == text


@pytest.mark.parametrize(
    "body",
    [
        "\\",
        r"\q",
        r"\'",
        r"\x4",
        r"\x4g",
        r"\101",
        r"\u123",
        r"\ud800",
        r"\udc80",
        r"\U00110000",
        r"\U0000d800",
        "\\\n",
        '"',
        '\\\\"',
        'a"b\\"',
        r"\"\\" + '"',
        r"\"" + '"',
    ],
)
def test_what_is_not_quoted_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match="bad escape or bare quote"):
        unquote(body)


def test_a_refusal_shows_only_the_place() -> None:
    with pytest.raises(ValueError, match=r"here \\\\q now") as caught:
        unquote("x" * 100_000 + r"here \q now" + "y" * 100_000)
    assert len(str(caught.value)) < 100


@given(TEXTS)
def test_reading_undoes_quoting(text: str) -> None:
    quoted = quote(text)
    assert quoted.isprintable()
    assert unquote(quoted[1:-1]) == text


@given(st.lists(TEXTS))
def test_splitting_undoes_joining(items: list[str]) -> None:
    assert split_list(quote_list(items)) == tuple(items)


@given(st.text() | st.text('",\\a'))
def test_any_body_is_read_or_refused(text: str) -> None:
    for read in (unquote, split_list):
        try:
            read(text)
        except ValueError:
            continue


@given(st.text('",\\a'))
def test_only_lists_are_split(text: str) -> None:
    try:
        items = split_list(text)
    except ValueError:
        return
    assert quote_list(items) == text


NO_LISTS = ['"', '""a', 'a""', '"a",', ',"a"', '"a""b"', '"a" "b"', "a", '"a"b"', '"a', '"a","b']


@pytest.mark.parametrize("text", NO_LISTS)
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not part of a list"):
        split_list(text)

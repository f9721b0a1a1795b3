r"""The selectors and numbers in the query of a list: what they name, and whether they are valid.

One bad option makes the API server forget all of them (`info`), so validity decides whether a
request has a name. This is not a selector engine: nothing here matches an object.

A field selector is terms split at commas, ``field=value`` with ``=``, ``==`` or ``!=``; a value
escapes ``\\``, ``\,`` and ``\=``. A label selector has a little grammar, see `_REQUIREMENT`.

Source: audit specification section 4, step 8; apimachinery ``pkg/fields/selector.go``,
``pkg/labels/selector.go`` and ``pkg/util/validation/validation.go``.
"""

import re

# Not possessive: before 3.11.5, Python's possessive groups fail where they should only end.
_FIELD_TERMS = re.compile(r"(?:[^\\,]|\\.|\\\Z)+", re.DOTALL)
_FIELD_TERM = re.compile(
    r"(?P<field>(?:(?!!=)[^=])*)(?P<operator>!=|==?)(?P<value>(?:[^\\,=]|\\[\\,=])*)"
)
_ESCAPE = re.compile(r"\\(.)")

_INT64 = re.compile(r"([+-]?)0*([0-9]{1,19})")

_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_DNS_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*")

# A NUL ends the token before it and is swallowed; where a token should begin it ends the selector.
_TOKEN = re.compile(r"[ \t\r\n]*(?:(?P<symbol>!=|==?|[!(),<>])|(?P<word>[^ \t\r\n=!(),<>\0]+))\0?")
_KINDS = {"==": "=", "!=": "=", "<": ">", "in": "i", "notin": "i"}

# The grammar of one requirement, over one character per token: `w` a word, `i` one of the words
# `in` and `notin` (which may be keys and values too), `=` and `>` for all operators of their sort.
# Upstream reads commas in pairs, so a list may end in one comma or three, but not in two.
_REQUIREMENT = re.compile(
    r"""(?: !(?P<absent>[wi])
          | (?P<key>[wi])
            (?: =(?P<equal>[wi]?)
              | >(?P<number>[wi])
              | i\((?P<list> (?:(?: [wi](?=,) | ,, | ,(?=[wi]) )* [wi,])? )\)
            )?
        ) (?: ,(?=[!wi]) | \Z )""",
    re.VERBOSE,
)


def required_name(selector: str) -> str | None:
    """Return the object name a field selector asks for.

    The first equality of ``metadata.name`` in sorted order counts. What you get is ``""`` when
    there is none, or it is no possible name in a path, and None when the selector is malformed.
    """
    names = []
    for text in sorted(_FIELD_TERMS.findall(selector)):
        term = _FIELD_TERM.fullmatch(text)
        if term is None:
            return None
        if term["field"] == "metadata.name" and term["operator"] != "!=":
            names.append(_ESCAPE.sub(r"\1", term["value"]))
    return names[0] if names and _is_path_segment(names[0]) else ""


def _is_path_segment(name: str) -> bool:
    return name not in {".", ".."} and "/" not in name and "%" not in name


def is_int64(text: str) -> bool:
    """Tell whether the text is a decimal 64-bit integer, with or without a sign."""
    match = _INT64.fullmatch(text)
    return match is not None and -(2**63) <= int(match[1] + match[2]) < 2**63


def is_label_selector(text: str) -> bool:
    """Tell whether a label selector is well-formed; the empty one is.

    Keys must be qualified names, values label values, and ``<`` and ``>`` need an integer.
    """
    kinds, literals = _scan(text)
    position = 0
    while position < len(kinds):
        match = _REQUIREMENT.match(kinds, position)
        if match is None or not _is_requirement(match, literals):
            return False
        position = match.end()
    return True


def _scan(text: str) -> tuple[str, list[str]]:
    """Return the kinds of the tokens, a character each, and the tokens."""
    kinds, literals = [], []
    position = 0
    while match := _TOKEN.match(text, position):
        literal = match["symbol"] or match["word"]
        kinds.append(_KINDS.get(literal, "w" if match["word"] else literal))
        literals.append(literal)
        position = match.end()
    return "".join(kinds), literals


def _is_requirement(match: re.Match[str], literals: list[str]) -> bool:
    """Tell whether the tokens of one requirement are what their places ask for."""
    keys, equal, numbers, listed = (
        literals[slice(*match.span(place))] if match[place] else []
        for place in ("absent" if match["absent"] else "key", "equal", "number", "list")
    )
    values = [*equal, *numbers, *(literal for literal in listed if literal != ",")]
    return all(map(_is_key, keys)) and all(map(_is_value, values)) and all(map(is_int64, numbers))


def _is_key(text: str) -> bool:
    prefix, slash, name = text.rpartition("/")
    if slash and not (len(prefix) <= 253 and _SUBDOMAIN.fullmatch(prefix)):
        return False
    return _is_value(name)


def _is_value(text: str) -> bool:
    return len(text) <= 63 and _NAME.fullmatch(text) is not None

"""Request targets and queries, read the way Go's ``net/url`` reads them.

A target is the text between method and protocol on the wire. Bytes that are not UTF-8 travel as
lone surrogates (``surrogateescape``), here and in everything that comes out.

Source: audit specification section 5.4 and the end of section 4; Go's ``src/net/url/url.go``.
"""

import re
from urllib.parse import quote, unquote_to_bytes

from kubewitness.errors import RequestError

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?://(?P<authority>[^/?]*))?")
_AUTHORITY = re.compile(
    r"""(?:(?:[A-Za-z0-9\-._~!$&'()*+,;=:@] | %[0-9A-Fa-f]{2})*@)?      # user:password@
        (?: \[ [0-9A-Fa-f:.]+ (?:%25(?:[^\]%] | %[0-9A-Fa-f]{2})+)? \]  # [address%25zone]
          | (?:[A-Za-z0-9\-._~!$&'()*+,;=<>"] | [^\x00-\x7f]            # or a name, where
             | %[89A-Fa-f][0-9A-Fa-f] | %25)*                           # only these are escaped
        ) (?::[0-9]*)?""",
    re.VERBOSE,
)

_KEPT_PATH = re.compile(r"[A-Za-z0-9\-_.~$&+,/:;=@!'()*\[\]%]*")
_UNESCAPED = "$&+,/:;=@"
"""What stays plain when a path is encoded again, beside letters, digits and ``-_.~``."""

_MAX_PAIRS = 10_000
"""Go 1.26 gives up on a query with more pairs than this and sees none of them."""


def normalize_target(target: str) -> tuple[str, str]:
    """Return the event's ``requestURI`` and the decoded path of a raw request target.

    A path of ordinary characters is kept as it was sent, hex case included; any other is decoded
    and encoded again. The query is kept as it is. Absolute forms lose scheme and authority; one
    without a path has the URI ``/`` and, as upstream, the path ``""``.

    Raises:
        RequestError: Status 400, for a target that Go's ``url.ParseRequestURI`` refuses.

    Source: audit specification section 5.4; vectors ``request_uri.json``.
    """
    if not target or _CONTROL.search(target):
        raise RequestError("the request target is empty or has a control character", status=400)
    _octets(target)
    if target == "*":
        return target, target
    raw, mark, query = _without_authority(target).partition("?")
    if not raw.startswith("/"):
        return (raw or "/") + mark + query, ""
    path = unescape(raw)
    kept = raw if _KEPT_PATH.fullmatch(raw) else quote(_octets(path), safe=_UNESCAPED)
    return kept + mark + query, path


def _without_authority(target: str) -> str:
    """Return what follows the scheme and authority, if there are any."""
    if target.startswith("/"):
        return target
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        raise RequestError("the request target is neither a path nor an absolute URL", status=400)
    if not _AUTHORITY.fullmatch(absolute["authority"] or ""):
        raise RequestError("the request target has a malformed host", status=400)
    return target[absolute.end() :]


def unescape(text: str) -> str:
    """Return the text with its percent-escapes decoded; ``+`` is an ordinary character.

    Raises:
        RequestError: Status 400, when an escape is malformed or the text never was bytes.
    """
    if "%" not in text and text.isascii():
        return text
    if _BAD_ESCAPE.search(text):
        raise RequestError("the request target has a malformed percent-escape", status=400)
    return unquote_to_bytes(_octets(text)).decode("utf-8", "surrogateescape")


def _octets(text: str) -> bytes:
    """Return the bytes the text stands for."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise RequestError("the request target is not text from the wire", status=400) from None


def parse_query(raw: str) -> dict[str, list[str]]:
    """Return the values of each key of a query (without its ``?``), in order.

    Never raises: pairs with a malformed escape or a bare ``;`` are dropped, as is all of a query
    of more than 10,000 pairs. A key without ``=`` has the value ``""``; ``+`` is a blank.

    Source: audit specification section 4, last paragraph of the algorithm.
    """
    values: dict[str, list[str]] = {}
    if raw.count("&") >= _MAX_PAIRS:
        return values
    for pair in raw.split("&"):
        if not pair or ";" in pair:
            continue
        key, _, value = pair.replace("+", " ").partition("=")
        try:
            key, value = unescape(key), unescape(value)
        except RequestError:
            continue
        values.setdefault(key, []).append(value)
    return values

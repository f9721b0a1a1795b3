"""Every error this project raises on purpose, and the shape of a problem report.

The tree::

    KubewitnessError
    ├── DecodeError     bytes that are not an audit event (or a list of them)
    ├── EncodeError     an event that has no JSON form
    ├── InputError      a file or flags that cannot be used; carries every Problem found
    │   ├── DocumentError    text that is neither YAML nor JSON
    │   ├── PolicyError      an audit policy
    │   ├── KubeconfigError  the webhook's kubeconfig
    │   └── OptionsError     flags, variables and the configuration file
    ├── RequestError    a request target the API server would refuse
    └── StateError      a request's audit driven out of order (a bug in the driver)

Foreign exceptions (msgspec's, PyYAML's, zlib's) are mapped to these at one seam each: `codec`,
`documents` and `backends`. What is *not* here: logging, exit codes, translations.
"""

from msgspec import Struct


class Problem(Struct, frozen=True):
    """One thing wrong with one place of an input.

    Attributes:
        source: The file's name as the user gave it, ``-`` for standard input.
        line: 1-based; 0 when the problem is the whole input.
        column: 1-based, counted in characters; 0 when only the line is known.
        field: The path of the field, for example ``rules[3].resources[0].group``; may be empty.
        message: One sentence, with what to do when that is known.
    """

    source: str
    line: int = 0
    column: int = 0
    field: str = ""
    message: str = ""

    def __str__(self) -> str:
        """Return ``source:line:column: field: message``, leaving out what is not known.

        It is one line and safe to print, whatever the input was: what is not printable is escaped.
        """
        place = ":".join(str(part) for part in (self.source, self.line, self.column) if part)
        text = ": ".join(part for part in (place, self.field, self.message) if part)
        return printable(text)


def printable(text: str) -> str:
    """Return a text that can neither move a terminal's cursor nor forge a line of output."""
    return text if text.isprintable() else ascii(text)[1:-1]


class KubewitnessError(Exception):
    """The root of the tree: catch it to catch everything the project raises on purpose."""


class DecodeError(KubewitnessError):
    """The bytes are not an audit event, or not a list of them. The text says why."""


class EncodeError(KubewitnessError):
    """The event has no JSON form, for example a requestObject that is not JSON."""


class InputError(KubewitnessError):
    """Something that a person wrote cannot be used.

    Attributes:
        problems: Everything found, in the order of the checks; never empty.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class DocumentError(InputError):
    """The text is neither YAML nor JSON."""


class PolicyError(InputError):
    """The policy cannot be used."""


class KubeconfigError(InputError):
    """The kubeconfig names no server to send to, or no usable way to it."""


class OptionsError(InputError):
    """The flags, variables and configuration file cannot be used together."""


class RequestError(KubewitnessError):
    """The API server answers this request target itself, before anything is audited.

    Attributes:
        status: The HTTP status it answers with: 400 (malformed target) or 500 (no RequestInfo).
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class StateError(KubewitnessError):
    """A RequestAudit was driven out of order, for example completed twice."""

"""The policies that come with the package, each a file with comments on what it is for."""

from importlib import resources

from msgspec import Struct

_FOLDER = resources.files(__package__) / "bundled"


class BundledPolicy(Struct, frozen=True):
    """A policy file of the package.

    Attributes:
        name: What it is called on the command line.
        summary: What it is for, in one sentence (the first line of the file).
        data: The file, comments included.
    """

    name: str
    summary: str
    data: bytes


def bundled_policies() -> tuple[BundledPolicy, ...]:
    """Return the policies of the package, sorted by name."""
    files = sorted(_FOLDER.iterdir(), key=lambda file: file.name)
    return tuple(
        _bundled(file.name.removesuffix(".yaml"), file.read_bytes())
        for file in files
        if file.name.endswith(".yaml")
    )


def _bundled(name: str, data: bytes) -> BundledPolicy:
    first = data.split(b"\n", 1)[0].decode()
    return BundledPolicy(name, first.removeprefix(f"# {name}: "), data)

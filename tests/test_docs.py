"""The documents say what is there: their examples run, and what they name exists."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import COMMAND, ENVIRONMENT
from receiver import Authority, Receiver, receiver
from vectors import recorded

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "kubewitness"
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: Metadata
"""


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[Receiver]:
    """Run the webhook that the examples send to."""
    authority = Authority(tmp_path)
    with receiver(authority.server_context()) as running:
        authority.kubeconfig(running.address)
        yield running


@pytest.fixture
def place(tmp_path: Path, webhook: Receiver) -> Path:
    """Return a directory with the files that the examples name."""
    assert webhook.port
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "audit.log").write_bytes(recorded("gce.events.jsonl"))
    (tmp_path / "old-legacy.log").write_bytes(recorded("gce.legacy.log"))
    return tmp_path


def numbered(language: str) -> list[object]:
    found = [code for kind, code in BLOCKS if kind == language]
    return [pytest.param(code, id=f"{language}-{index}") for index, code in enumerate(found)]


@pytest.mark.parametrize("code", numbered("python"))
def test_python_examples_run(code: str, place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=place, capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")


def test_the_event_of_the_example_arrives(place: Path, webhook: Receiver) -> None:
    (code,) = [code for kind, code in BLOCKS if "process_events" in code]
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=place, check=True)

    assert len(code.splitlines()) <= 11
    assert len(webhook.delivered) == 1
    assert (place / "logs" / "audit.log").read_bytes().count(b"\n") == 1


@pytest.mark.parametrize("code", numbered("sh"))
def test_shell_examples_run(code: str, place: Path) -> None:
    if code.startswith("make "):
        verbs = re.findall(r"^make (\w+)", code, re.MULTILINE)
        makefile = (ROOT / "Makefile").read_text()
        assert all(re.search(rf"^{verb}:", makefile, re.MULTILINE) for verb in verbs)
        return
    script = re.sub(r"^kubewitness", " ".join(COMMAND), code, flags=re.MULTILINE)
    script = script.replace("| kubewitness", f"| {' '.join(COMMAND)}")

    done = subprocess.run(
        ["/bin/sh", "-ec", script], cwd=place, env=ENVIRONMENT, capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")


def test_every_file_that_the_architecture_names_exists() -> None:
    names = re.findall(r"`((?:\w+/)+\w+\.py|\w+/)`", ARCHITECTURE)

    assert len(names) > 12
    assert [name for name in names if not (SOURCE / name).exists()] == []


def test_every_room_is_on_a_floor_of_the_architecture() -> None:
    floors = ARCHITECTURE.partition("```\n9 ")[2].partition("```")[0]
    rooms = {path.stem for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    rooms |= {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}

    assert [room for room in sorted(rooms) if not re.search(rf"\b{room}\b", floors)] == []
    assert [room for room in sorted(rooms) if f"**{room}**" not in ARCHITECTURE] == []


def test_every_dependency_has_its_reason() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    declared = project.partition("dependencies = [")[2].partition("]")[0]
    names = re.findall(r'"([\w-]+)', declared)

    assert names
    assert all(re.search(rf'"{name}[^"]*",\s+# \S', declared) for name in names)
    assert all(name in ARCHITECTURE for name in names)


def test_relative_links_lead_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_nothing_in_the_project_is_a_stand_in() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert "raise NotImplementedError" not in text, path
        assert "TODO" not in text, path

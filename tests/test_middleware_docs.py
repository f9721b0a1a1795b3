"""What docs/middleware.md says is there."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

from asgi_driver import rules
from asgi_server import EXAMPLES
from kubewitness import RequestAudit, capture
from kubewitness.capture import AuditMiddleware

TEXT = (Path(__file__).parent.parent / "docs" / "middleware.md").read_text()


def test_every_setting_is_in_its_table() -> None:
    settings = list(inspect.signature(AuditMiddleware).parameters)[1:]
    table = TEXT.partition("## Settings")[2].partition("##")[0]

    assert [name for name in settings if f"`{name}`" not in table] == []


def test_every_public_name_is_there() -> None:
    assert all(name in TEXT for name in capture.__all__ if name != "Auditor")


def test_what_an_application_may_call_exists() -> None:
    for name in re.findall(r"`(annotate|impersonate|add_latency|record_\w+_object)`", TEXT):
        assert callable(getattr(RequestAudit, name))


def test_every_example_is_linked() -> None:
    linked = set(re.findall(r"\(\.\./examples/(\w+\.py)\)", TEXT))

    assert linked == {path.name for path in EXAMPLES.glob("*.py")}


def test_its_code_runs(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(rules("Metadata"))
    code = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")

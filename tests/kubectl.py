"""Runs a real kubectl, with a kubeconfig of its own."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

SOON = 60
LOGS = "line 1 of web\nline 2 of web\nline 3 of web\n"
MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: NAME, namespace: default}
data: {a: "VALUE"}
"""

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")


class Kubectl:
    """kubectl with a kubeconfig; what it keeps goes beside that."""

    def __init__(self, kubeconfig: Path) -> None:
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(kubeconfig.parent),
            "KUBECONFIG": str(kubeconfig),
        }

    def __call__(self, *words: str, say: str = "", more: Mapping[str, str] = {}) -> str:
        """Run a command to its end, and return what it prints."""
        done = subprocess.run(
            ["kubectl", *words],  # noqa: S607
            input=say,
            capture_output=True,
            text=True,
            timeout=SOON,
            env={**self._environment, **more},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def running(self, *words: str, more: Mapping[str, str] = {}) -> Iterator[subprocess.Popen[str]]:
        """Run a command beside the test; it is killed when it takes too long."""
        with subprocess.Popen(
            ["kubectl", *words],  # noqa: S607
            stdout=subprocess.PIPE,
            text=True,
            env={**self._environment, **more},
        ) as process:
            guard = threading.Timer(SOON, process.kill)
            guard.start()
            try:
                yield process
            finally:
                guard.cancel()
                process.kill()

    def apply_map(self, name: str, value: str, *words: str) -> str:
        """Apply a ConfigMap that holds one value."""
        document = MAP.replace("NAME", name).replace("VALUE", value)
        return self("apply", *words, "-f", "-", say=document)

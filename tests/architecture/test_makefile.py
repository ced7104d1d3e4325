"""The Makefile speaks in sentences, and says all that it can do."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")


def make(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_make_alone_lists_every_target() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    listed = re.findall(r"^make (\w+)", make().stdout, re.MULTILINE)
    assert set(listed) == set(targets) - {"help", "venv"}


def test_without_a_fitting_python_make_says_which_it_needs(tmp_path: Path) -> None:
    done = make("venv", f"VENV={tmp_path / 'venv'}", "PYTHONS=no-such-python")
    assert done.returncode != 0
    assert "Medallion needs Python 3.11 to 3.14 and finds none" in done.stderr
    assert "Traceback" not in done.stderr

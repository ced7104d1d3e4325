"""A source or a task that cannot be used stops itself alone: the others keep their assets, sensors and commands, and one sentence says why.

The folders are broken in a copy of the package, which processes of their own import.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from medallion_defs.core.settings import Settings
from tests.conftest import ROOT

BROKEN = {
    "sources/companies": "is not valid YAML",
    "sources/media": "ZeroDivisionError: division by zero (media/tables.py, line 1, in <module>)",
    "sources/articles": "SyntaxError",
    "tasks/text_statistics": "text_statistics/prompt.json",
    "tasks/video_probe": "RuntimeError: planted (video_probe/task.py, line ",
}
LIST = """
import json
from importlib import import_module
found = {}
for name in ("bronze", "silver", "gold"):
    defs = import_module(f"medallion_defs.locations.{name}").defs
    found[name] = sorted("/".join(key.path) for key in defs.resolve_all_asset_keys())
    found[f"{name} sensors"] = sorted(sensor.name for sensor in defs.sensors)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package in which five content folders are broken."""
    folder = tmp_path_factory.mktemp("broken")
    package = folder / "medallion_defs"
    shutil.copytree(ROOT / "medallion_defs", package, ignore=shutil.ignore_patterns("__pycache__"))
    recipe = next((package / "sources/companies/recipes").glob("*.yaml"))
    recipe.write_text("files: [\n", encoding="utf-8")
    _prepend(package / "sources/media/tables.py", "1 / 0\n")
    _prepend(package / "sources/articles/transform.py", "def read_file(:\n")
    (package / "tasks/text_statistics/prompt.json").write_text("{", encoding="utf-8")
    task = package / "tasks/video_probe/task.py"
    task.write_text(task.read_text(encoding="utf-8").replace("return TaskSpec(", "raise RuntimeError('planted')\n    return TaskSpec("))
    return folder


def _prepend(path: Path, text: str) -> None:
    path.write_text(text + path.read_text(encoding="utf-8"), encoding="utf-8")


def run(copy: Path, settings: Settings, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ, "PYTHONPATH": str(copy), "MEDALLION_ROOT": str(ROOT), "MEDALLION_DATA_DIR": str(settings.data_dir),
        "MEDALLION_DATABASE_URL": str(settings.database_url), "DAGSTER_PG_URL": "",
    }  # fmt: skip
    return subprocess.run([sys.executable, *words], cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=300)


def medallion(copy: Path, settings: Settings, *words: str) -> "subprocess.CompletedProcess[str]":
    return run(copy, settings, "-m", "medallion_defs.cli.main", *words)


def assert_told(sentences: Mapping[str, str]) -> None:
    assert sorted(sentences) == sorted(BROKEN)
    for folder, why in BROKEN.items():
        assert why in sentences[folder]


def test_the_locations_load_with_what_can_be_used(copy: Path, settings: Settings) -> None:
    done = run(copy, settings, "-c", LIST)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"bronze/companies", "bronze/media", "bronze/articles", "bronze/driver_events"} <= set(found["bronze"])
    # A source whose facts and table are there keeps its place on the page; its sensor says what is wrong.
    assert {"silver/companies", "silver/articles", "silver/driver_events"} <= set(found["silver"])
    assert "silver/media" not in found["silver"]
    assert {"discover_companies", "discover_driver_events"} <= set(found["silver sensors"])
    assert {"gold/driver_events_enriched", "silver/tasks/text.summarize", "silver/tasks/video.extract_frames"} <= set(found["gold"])
    assert not {"silver/tasks/text.statistics", "silver/tasks/video.probe"} & set(found["gold"])
    assert "sources/media is left out: ZeroDivisionError" in done.stderr


def test_status_and_doctor_say_it_in_a_sentence_each(copy: Path, settings: Settings) -> None:
    status = medallion(copy, settings, "status", "--json")
    assert status.returncode == 0, status.stderr
    sentences = [finding["sentence"] for finding in json.loads(status.stdout)["findings"] if finding["kind"] == "broken"]
    assert_told({sentence.partition(" is left out: ")[0]: sentence for sentence in sentences})
    doctor = medallion(copy, settings, "doctor", "--json")
    assert doctor.returncode == 1
    [finding] = [finding for finding in json.loads(doctor.stdout) if finding["check"] == "content"]
    assert finding["verdict"] == "problem"
    for folder, why in BROKEN.items():
        assert f"{folder}: " in finding["detail"]
        assert why in finding["detail"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("backfill", "silver.companies"), "sources/companies is left out"),
        (("tasks", "plan", "--task", "video.probe"), "tasks/video_probe is left out"),
        (("fetch", "companies"), None),
        (("backfill", "silver.driver_events"), None),
        (("tasks", "plan", "--task", "text.summarize"), None),
        (("migrate",), None),
    ],
)
def test_a_command_on_what_is_broken_says_so_and_all_others_work(
    copy: Path, settings: Settings, words: tuple[str, ...], sentence: str | None
) -> None:
    done = medallion(copy, settings, *words)
    assert (done.returncode, "Traceback" in done.stderr) == (1 if sentence else 0, False), done.stderr
    assert sentence is None or sentence in done.stderr

"""Media and articles dropped into landing while a real daemon runs: every task gets its results, those that ask a model included."""

import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from medallion_defs.core.settings import Settings, process_environment
from medallion_defs.labeling.registry import load_tasks
from medallion_defs.stack.health import find_free_port, is_port_free
from medallion_defs.stack.running import RunningStack, running_stack
from tests.conftest import ROOT
from tests.folders import stack_folder
from tests.media_files import make_image, make_tone, make_video

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1200)]

# A deadline, not a duration: it leaves room for a machine that has other things to do.
SECONDS = 900.0
PAGE = "<html lang='en'><head><title>{title}</title></head><body><article>{body}</article></body></html>"
BODY = (
    "<p>After two years of work the old bridge over the harbour opens to traffic on Monday.</p>"
    "<p>Lorries of more than twelve tonnes still have to take the tunnel.</p>"
    "<p>The city spent nine million on new steel and on a path for bicycles.</p>"
)
MATERIALIZATIONS = """
query Answers {
  assetNodeOrError(assetKey: {path: ["silver", "tasks", "answers"]}) {
    ... on AssetNode {
      assetMaterializations(limit: 20) {
        metadataEntries { label ... on MarkdownMetadataEntry { mdStr } ... on IntMetadataEntry { intValue } }
      }
    }
  }
}
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    """The stand-in for the model, in a process of its own; give its address."""
    port = find_free_port()
    command = [str(Path(sysconfig.get_path("scripts")) / "medallion"), "genai", "emulator", "--port", str(port)]
    process = subprocess.Popen(command, env={**process_environment(), "MEDALLION_ROOT": str(ROOT)}, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while is_port_free(port):
            assert process.poll() is None, "the emulator ended"
            assert time.monotonic() < deadline, "the emulator does not listen"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def stack(emulator: str) -> Iterator[RunningStack]:
    environment = {"MEDALLION_GENAI__BASE_URL": emulator, "MEDALLION_GENAI__POLL_SECONDS": "1"}
    with stack_folder() as folder, running_stack(Settings(root=ROOT, data_dir=folder / "data"), environment=environment) as stack:
        yield stack


def drop(stack: RunningStack, source: str, path: Path) -> None:
    """Put a file into landing as a careful writer does: under another name first."""
    target = stack.settings.landing_path / source / path.name
    growing = target.with_name(target.name + ".part")
    growing.write_bytes(path.read_bytes())
    growing.rename(target)


def results(stack: RunningStack) -> dict[str, set[str]]:
    """The subjects with a result, by task."""
    with psycopg.connect(stack.databases.medallion_url) as db:
        rows = db.execute("SELECT task_key, array_agg(subject_key) FROM silver.tasks_results GROUP BY task_key").fetchall()
    return {task_key: set(subjects) for task_key, subjects in rows}


def frames(stack: RunningStack) -> set[str]:
    """The frames that were extracted, as the task that labels them calls them."""
    query = """
        SELECT task_id || '/' || (frame ->> 'file') FROM silver.tasks_results, jsonb_array_elements(output -> 'frames') AS frame
        WHERE task_key = 'video.extract_frames'
    """
    with psycopg.connect(stack.databases.medallion_url) as db:
        return {frame for (frame,) in db.execute(query).fetchall()}


def labelled(stack: RunningStack) -> set[str]:
    """The tasks that gold has labels of."""
    with psycopg.connect(stack.databases.medallion_url) as db:
        return {task_key for (task_key,) in db.execute("SELECT DISTINCT task_key FROM gold.media_labels").fetchall()}


def test_what_is_dropped_gets_the_results_of_every_task(stack: RunningStack, tmp_path: Path) -> None:
    drop(stack, "media", make_video(tmp_path / "clip.mp4"))
    drop(stack, "media", make_tone(tmp_path / "tone.wav"))
    drop(stack, "media", make_image(tmp_path / "photo.png"))
    (tmp_path / "bridge.html").write_text(PAGE.format(title="The bridge", body=BODY))
    drop(stack, "articles", tmp_path / "bridge.html")
    expected = {
        "video.probe": {"clip.mp4"}, "video.extract_frames": {"clip.mp4"}, "audio.probe": {"tone.wav"},
        "image.thumbnail_phash": {"photo.png"}, "image.caption": {"photo.png"}, "text.statistics": {"bridge.html"},
        "text.summarize": {"bridge.html"},
    }  # fmt: skip
    stack.wait_for("the results of every task", lambda: {key: results(stack).get(key) for key in expected} == expected, SECONDS)
    # The frames are the subjects of another task, and their files are where the result says.
    stack.wait_for("the labels of the frames", lambda: results(stack).get("frame.label") == frames(stack), SECONDS)
    assert all((stack.settings.derived_path / "video.extract_frames" / frame).is_file() for frame in frames(stack))
    assert set(results(stack)) | {"page.curricular"} == set(load_tasks())
    stack.wait_for("all of them in gold", lambda: labelled(stack) == set(results(stack)), SECONDS)


def test_the_answers_materialization_carries_the_report_of_each_batch(stack: RunningStack) -> None:
    found = stack.ask(MATERIALIZATIONS)["assetNodeOrError"]["assetMaterializations"]
    reports = [entry["mdStr"] for event in found for entry in event["metadataEntries"] if entry["label"] == "batch_summary_report"]
    assert sum(report.count("### Batch Summary Report") for report in reports) == len(settled(stack)) > 0
    for batch_id in settled(stack):
        assert any(f"`{batch_id}`" in report for report in reports)


def settled(stack: RunningStack) -> list[str]:
    with psycopg.connect(stack.databases.medallion_url) as db:
        rows = db.execute("SELECT batch_id FROM ops.active_batches WHERE status = 'completed' AND settled_usd > 0").fetchall()
    return [batch_id for (batch_id,) in rows]


def test_what_is_done_asks_for_no_further_runs(stack: RunningStack) -> None:
    """Two ticks of the sensor after everything is done: as many runs as before."""
    query = "{ runsOrError { ... on Runs { results { runId jobName } } } }"
    before = {run["runId"] for run in stack.ask(query)["runsOrError"]["results"]}
    ticks = len(ticks_of_plan(stack))
    stack.wait_for("the sensor to look again", lambda: len(ticks_of_plan(stack)) >= ticks + 2, SECONDS)
    after = {run["runId"]: run["jobName"] for run in stack.ask(query)["runsOrError"]["results"]}
    assert [job for run_id, job in after.items() if run_id not in before and job.startswith("task")] == []


def ticks_of_plan(stack: RunningStack) -> list[object]:
    selector = {"repositoryLocationName": "gold", "repositoryName": "__repository__", "sensorName": "plan_tasks"}
    query = """
    query Ticks($selector: SensorSelector!) {
      sensorOrError(sensorSelector: $selector) { ... on Sensor { sensorState { ticks(limit: 500) { id } } } }
    }
    """
    ticks: list[object] = stack.ask(query, {"selector": selector})["sensorOrError"]["sensorState"]["ticks"]
    return ticks

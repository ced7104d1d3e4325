"""Media that others reported as read wrong, from the landing folder through silver and every task that needs no model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from PIL import Image

from medallion_defs.core.settings import Settings
from medallion_defs.labeling import runner
from medallion_defs.labeling.registry import load_tasks
from medallion_defs.locations import bronze, silver
from tests.integration.dagster_assets import drop, materialize

TASKS = load_tasks()
PHASH, PROBE, FRAMES, SOUND = "image.thumbnail_phash", "video.probe", "video.extract_frames", "audio.probe"
GREYS = {"format": "PNG", "frames": 1, "phash": "f" * 16}
EXPECTED: dict[str, tuple[str, dict[str, dict[str, object]]]] = {
    "png16_ramp.png": ("image/png", {PHASH: GREYS}),
    "tif16_ramp_rev.tif": ("image/tiff", {PHASH: {"format": "TIFF", "frames": 1, "phash": "0" * 16}}),
    "stereo.jpg": ("image/jpeg", {PHASH: {"format": "JPEG", "frames": 1}}),
    "vbr_silence_noise.aac": ("audio/aac", {SOUND: {"duration_ms": 19_992, "bit_rate": 67_894, "missing_ms": None}}),
    "mpeg25_8k.mp3": ("audio/mpeg", {SOUND: {"duration_ms": 5_184, "bit_rate": 8_000}}),
    "id3.flac": ("audio/flac", {SOUND: {"container": "flac", "duration_ms": 2_995}}),
    "audio_only.avi": ("audio/x-msvideo", {SOUND: {"container": "avi", "duration_ms": 2_995, "has_picture": False}}),
    "cover_first.mp4": (
        "video/mp4",
        {
            PROBE: {"codec": "mpeg4", "width": 160, "height": 120, "frame_rate": 10.0, "frames": 30, "duration_ms": 3_000},
            FRAMES: {"damaged_packets": 0},
        },
    ),
    "neg_start.mkv": (
        "video/x-matroska",
        {PROBE: {"duration_ms": 3_000, "bit_rate": 21_624, "missing_ms": 0, "frames": 30}, FRAMES: {"damaged_packets": 0}},
    ),
    "fast_cut.mp4": (
        "video/mp4",
        # 18 of 30 pictures are there, the last of them not whole.
        {PROBE: {"duration_ms": 1_800, "missing_ms": 1_200, "frames": 18, "damaged_packets": 13}, FRAMES: {"damaged_packets": 13}},
    ),
}


@pytest.fixture
def loaded(settings: Settings, instance: dg.DagsterInstance, shared_data: Path) -> Settings:
    """All of them in silver, and each task done."""
    for name in EXPECTED:
        drop(settings, "media", name, (shared_data / "failing" / name).read_bytes())
    assert materialize(bronze.defs, ["bronze", "media"], settings, instance).success
    assert materialize(silver.defs, ["silver", "media"], settings, instance).success
    for task_key in (PHASH, PROBE, FRAMES, SOUND):
        runner.run(settings, TASKS[task_key])
    return settings


def test_what_others_reported_has_its_right_values(loaded: Settings, db: psycopg.Connection) -> None:
    kinds = dict(db.execute("SELECT media_id, mime_type FROM silver.media WHERE quality_flags = '{}'").fetchall())
    assert kinds == {name: mime_type for name, (mime_type, _) in EXPECTED.items()}
    outputs: dict[str, dict[str, Mapping[str, Any]]] = {}
    for subject, task_key, output in db.execute("SELECT subject_key, task_key, output FROM silver.tasks_results").fetchall():
        outputs.setdefault(subject, {})[task_key] = output
    assert {name: set(tasks) for name, tasks in outputs.items()} == {name: set(tasks) for name, (_, tasks) in EXPECTED.items()}
    for name, (_, tasks) in EXPECTED.items():
        for task_key, values in tasks.items():
            found = outputs[name][task_key]
            assert {key: found[key] for key in values} == values, (name, task_key)
    assert [len(outputs[name][FRAMES]["frames"]) for name in ("cover_first.mp4", "neg_start.mkv")] == [1, 1]  # one in ten seconds
    assert outputs["cover_first.mp4"][FRAMES]["frames"][0]["width"] == 160
    assert greys(loaded, outputs["png16_ramp.png"]) == pytest.approx([2, 129, 254], abs=2)
    assert greys(loaded, outputs["tif16_ramp_rev.tif"]) == pytest.approx([253, 127, 1], abs=2)


def greys(settings: Settings, outputs: Mapping[str, Mapping[str, Any]]) -> list[int]:
    """Return the levels of the stored thumbnail at its left, in its middle and at its right."""
    [path] = (settings.derived_path / PHASH).rglob(outputs[PHASH]["thumbnail"]["file"])
    with Image.open(path) as image:
        grey = image.convert("L")
        return [grey.crop((x, 60, x + 4, 64)).resize((1, 1), Image.Resampling.BOX).tobytes()[0] for x in (0, 126, 252)]

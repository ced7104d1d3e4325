"""Media and articles from the landing folder to silver, and on through the tasks that need no model."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from PIL import Image
from psycopg.rows import dict_row

from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.labeling import runner
from medallion_defs.labeling.registry import load_tasks
from medallion_defs.locations import bronze, silver
from medallion_defs.silver.digest import digest_table
from medallion_defs.sources.articles.tables import TABLE as ARTICLES
from medallion_defs.sources.media.tables import TABLE as MEDIA
from tests.integration.dagster_assets import drop, materialize
from tests.media_files import draw_stripes, image_bytes, make_image, make_tone, make_video

TASKS = load_tasks()
PAGE = "<html lang='en'><head><title>{title}</title></head><body><article>{body}</article></body></html>"
BODY = (
    "<p>After two years of work the old bridge over the harbour opens to traffic on Monday.</p>"
    "<p>Lorries of more than twelve tonnes still have to take the tunnel.</p>"
    "<p>The city spent nine million on new steel and on a path for bicycles.</p>"
)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with a video, a tone and an image."""
    folder = tmp_path / "made"
    folder.mkdir()
    make_video(folder / "clip.mp4")
    make_tone(folder / "tone.wav")
    make_image(folder / "photo.png")
    return folder


def load(settings: Settings, instance: dg.DagsterInstance, source: str) -> dg.ExecuteInProcessResult:
    assert materialize(bronze.defs, ["bronze", source], settings, instance).success
    result = materialize(silver.defs, ["silver", source], settings, instance)
    assert result.success
    return result


def rows(db: psycopg.Connection, query: str) -> list[dict[str, Any]]:
    with db.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(query).fetchall()
    db.commit()
    return list(found)


def outputs(db: psycopg.Connection, task_key: str) -> dict[str, Mapping[str, Any]]:
    found = db.execute("SELECT subject_key, output FROM silver.tasks_results WHERE task_key = %s ORDER BY change_seq", (task_key,))
    return dict(found.fetchall())


def test_every_file_is_one_row_or_one_reject_with_its_reason(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, made: Path
) -> None:
    for path in made.iterdir():
        drop(settings, "media", f"day 1/{path.name}", path.read_bytes())
    drop(settings, "media", "cut.mp4", (made / "clip.mp4").read_bytes()[:2_000])
    drop(settings, "media", "empty.mp4", b"")
    drop(settings, "media", "notes.jpg", b"no picture at all")
    load(settings, instance, "media")
    found = rows(
        db,
        "SELECT media_id, media_type, mime_type, quality_flags, source_record, bronze_path, artifact, bytes FROM silver.media ORDER BY 1",
    )
    assert [(row["media_id"], row["media_type"], row["quality_flags"]) for row in found] == [
        ("cut.mp4", "video", ["unreadable_container"]),
        ("day 1/clip.mp4", "video", []),
        ("day 1/photo.png", "image", []),
        ("day 1/tone.wav", "audio", []),
    ]
    for row in found:
        assert row["source_record"] == 1
        assert (settings.bronze_path / row["bronze_path"] / row["artifact"]).stat().st_size == row["bytes"]
    rejects = rows(
        db, "SELECT external_id, error_code, message FROM silver.rejected_rows JOIN ops.file_ingestions USING (file_id) ORDER BY 1"
    )  # fmt: skip
    assert [(row["external_id"], row["error_code"]) for row in rejects] == [("empty.mp4", "empty_file"), ("notes.jpg", "not_media")]
    assert all(row["external_id"] in row["message"] for row in rejects)


def test_the_ledger_has_the_facts_of_the_source_and_counts_that_reconcile(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, made: Path
) -> None:
    drop(settings, "media", "clip.mp4", (made / "clip.mp4").read_bytes())
    drop(settings, "media", "empty.mp4", b"")
    result = load(settings, instance, "media")
    assert [check.passed for check in result.get_asset_check_evaluations() if check.check_name == "counts_reconcile"] == [True]
    items = rows(
        db,
        "SELECT external_id, status, domain, source, dataset, silver_tablename, silver_rows_read, silver_rows_created, silver_errors "
        "FROM ops.file_ingestions ORDER BY 1",
    )
    facts = {"domain": "content", "source": "media", "dataset": "media"}
    assert items[0] == {
        "external_id": "clip.mp4", "status": "loaded", **facts,
        "silver_tablename": "silver.media", "silver_rows_read": 1, "silver_rows_created": 1, "silver_errors": None,
    }  # fmt: skip
    assert (items[1]["external_id"], items[1]["status"]) == ("empty.mp4", "dead")
    assert items[1]["silver_errors"] == {"error_type": "RefusedFileError", "message": "empty.mp4 has no bytes. Deliver it again."}


def test_new_bytes_under_an_old_name_correct_the_row_and_the_old_bytes_stay(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    for size in ((64, 48), (32, 24)):
        drop(settings, "media", "photo.png", image_bytes("PNG", size))
        load(settings, instance, "media")
    [row] = rows(db, "SELECT bytes, bronze_path, artifact FROM silver.media")
    current = settings.bronze_path / row["bronze_path"] / row["artifact"]
    with Image.open(current) as image:
        assert image.size == (32, 24)
    with Image.open(settings.bronze_path / "media/photo.png/media.png") as image:
        assert image.size == (64, 48)


def test_silver_rebuilt_from_bronze_is_the_same(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, made: Path
) -> None:
    for path in made.iterdir():
        drop(settings, "media", path.name, path.read_bytes())
    drop(settings, "articles", "bridge.html", PAGE.format(title="The bridge", body=BODY).encode())
    drop(settings, "articles", "menu.html.gz", gzip.compress(PAGE.format(title="", body="Home").encode()))
    for source in ("media", "articles"):
        load(settings, instance, source)
    before = [digest_table(db, table) for table in (MEDIA, ARTICLES)]
    db.execute("TRUNCATE silver.media, silver.articles, silver.rejected_rows, ops.file_ingestions")
    db.commit()
    for source in ("media", "articles"):
        load(settings, instance, source)
    assert [digest_table(db, table) for table in (MEDIA, ARTICLES)] == before


def test_an_article_becomes_text_and_its_html_stays_in_bronze(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, shared_data: Path
) -> None:
    pages = sorted((shared_data / "pages").glob("*.html.gz"))[:5]
    for page in pages:
        drop(settings, "articles", page.name, page.read_bytes())
    drop(settings, "articles", "broken.html.gz", pages[0].read_bytes()[:500])
    drop(settings, "articles", "api.html", b'{"error": "not found"}')
    load(settings, instance, "articles")
    found = rows(db, "SELECT article_id, title, body_text, body_words FROM silver.articles")
    assert len(found) == 5
    assert all(row["title"] and row["body_words"] > 100 and "<p" not in row["body_text"] for row in found)
    failed = rows(
        db,
        "SELECT external_id, status, silver_errors ->> 'message' AS message FROM ops.file_ingestions WHERE status <> 'loaded' ORDER BY 1",
    )
    assert [(row["external_id"], row["status"]) for row in failed] == [("api.html", "dead"), ("broken.html.gz", "dead")]
    assert "the gzip is cut off or damaged" in failed[1]["message"]


def test_a_video_goes_from_the_landing_folder_to_frames_that_wait_for_their_labels(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, made: Path
) -> None:
    video = make_video(made / "long.mp4", seconds=21)
    drop(settings, "media", "long.mp4", video.read_bytes())
    load(settings, instance, "media")
    report = runner.run(settings, TASKS["video.extract_frames"])
    assert dict(report.events) == {"succeeded": 1}
    [output] = outputs(db, "video.extract_frames").values()
    assert [frame["time_ms"] for frame in output["frames"]] == [0, 10_000, 20_000]
    planned = runner.plan(settings, TASKS["frame.label"])
    assert planned.planned == 3
    todo = rows(db, "SELECT subject_key, file_hash, bytes, depends_on, file_id FROM silver.tasks_todo WHERE task_key = 'frame.label'")
    [task] = rows(db, "SELECT task_id, file_id FROM silver.tasks_results")
    for row in todo:
        path = settings.derived_path / "video.extract_frames" / row["subject_key"]
        assert (path.stat().st_size, path.stem) == (row["bytes"], row["file_hash"])
        assert (row["depends_on"], row["file_id"]) == ([task["task_id"]], task["file_id"])
    inputs = inputs_of(db, "frame.label", [row["subject_key"] for row in todo])
    assert {row["subject_key"]: row["file_hash"] for row in inputs} == {row["subject_key"]: row["file_hash"] for row in todo}
    assert sorted(row["time_ms"] for row in inputs) == [0, 10_000, 20_000]
    assert {row["media_id"] for row in inputs} == {"long.mp4"}
    assert runner.plan(settings, TASKS["frame.label"]).planned == 0


def test_frames_of_many_videos_are_planned_however_few_a_plan_may_take(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, made: Path
) -> None:
    for seconds in (1, 11, 21):
        video = make_video(made / f"{seconds}.mp4", seconds=seconds, codec="mpeg4")
        drop(settings, "media", video.name, video.read_bytes())
    load(settings, instance, "media")
    runner.run(settings, TASKS["video.extract_frames"])
    distinct = {frame["sha256"] for output in outputs(db, "video.extract_frames").values() for frame in output["frames"]}
    planned = [runner.plan(settings, TASKS["frame.label"], limit=1).planned for _ in range(5)]
    # The first pictures of the three are the same, and asked about once.
    assert sum(planned) == len(distinct) < 6


def inputs_of(db: psycopg.Connection, task_key: str, keys: list[str]) -> list[dict[str, Any]]:
    with db.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(TASKS[task_key].spec.subjects.inputs, {"subject_keys": keys}).fetchall()


@pytest.mark.parametrize(
    ("task_key", "name"), [("video.probe", "clip.mp4"), ("audio.probe", "tone.wav"), ("image.thumbnail_phash", "photo.png")]
)
def test_each_kind_of_medium_has_its_own_tasks_and_is_asked_once(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, made: Path, task_key: str, name: str
) -> None:
    for path in made.iterdir():
        drop(settings, "media", path.name, path.read_bytes())
    load(settings, instance, "media")
    assert dict(runner.run(settings, TASKS[task_key]).events) == {"succeeded": 1}
    assert list(outputs(db, task_key)) == [name]
    assert dict(runner.run(settings, TASKS[task_key]).events) == {}


def test_a_damaged_video_is_dead_at_once_and_says_why(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, made: Path
) -> None:
    drop(settings, "media", "cut.mp4", (made / "clip.mp4").read_bytes()[:2_000])
    load(settings, instance, "media")
    assert dict(runner.run(settings, TASKS["video.probe"]).events) == {"failed": 1}
    [task] = runner.dead(settings, "video.probe")
    assert (task.status, task.attempts, task.error_type) == ("dead", 1, "DamagedMediumError")
    assert "cut.mp4 cannot be decoded" in str(task.error_message)


def test_the_statistics_of_articles_and_no_task_for_a_page_without_one(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    drop(settings, "articles", "bridge.html", PAGE.format(title="The bridge", body=BODY).encode())
    drop(settings, "articles", "menu.html", PAGE.format(title="Menu", body="<a href='/'>Home</a>").encode())
    load(settings, instance, "articles")
    assert dict(runner.run(settings, TASKS["text.statistics"]).events) == {"succeeded": 1}
    output = outputs(db, "text.statistics")["bridge.html"]
    assert (output["language"], output["sentences"]) == ("en", 3)


def test_a_page_that_changed_around_its_article_asks_nothing_again(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    for footer in ("Monday", "Tuesday"):
        page = PAGE.format(title="The bridge", body=BODY).replace("</body>", f"<footer>{footer}</footer></body>")
        drop(settings, "articles", "bridge.html", page.encode())
        load(settings, instance, "articles")
        runner.run(settings, TASKS["text.statistics"])
    assert db.execute("SELECT count(*) FROM ops.file_ingestions").fetchone() == (2,)
    assert db.execute("SELECT count(*) FROM silver.tasks_todo").fetchone() == (1,)


def test_copies_of_an_image_are_found(settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, made: Path) -> None:
    with Image.open(made / "photo.png") as image:
        image.resize((100, 75)).save(made / "small.png")
        image.save(made / "poor.jpg", quality=20)
    make_image(made / "stripes.png", draw=draw_stripes)
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 64), colour).save(made / f"{colour}.png")
    for path in made.iterdir():
        drop(settings, "media", path.name, path.read_bytes())
    load(settings, instance, "media")
    runner.run(settings, TASKS["image.thumbnail_phash"])
    near = load_queries("medallion_defs.tasks.image_thumbnail_phash", "near_duplicates.sql")["near_duplicates"]
    found = db.execute(near, {"max_distance": 4}).fetchall()
    assert {frozenset(pair[:2]) for pair in found} == {
        frozenset({"photo.png", "small.png"}), frozenset({"photo.png", "poor.jpg"}), frozenset({"small.png", "poor.jpg"}),
    }  # fmt: skip
    stored = outputs(db, "image.thumbnail_phash")
    for one, other, distance in found:
        assert distance == (int(stored[one]["phash"], 16) ^ int(stored[other]["phash"], 16)).bit_count()


def test_doing_a_task_again_gives_the_same_output(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, made: Path
) -> None:
    drop(settings, "media", "clip.mp4", (made / "clip.mp4").read_bytes())
    load(settings, instance, "media")
    runner.run(settings, TASKS["video.extract_frames"])
    before = json.dumps(outputs(db, "video.extract_frames"), sort_keys=True)
    db.execute("DELETE FROM silver.tasks_results")
    db.execute("UPDATE silver.tasks_todo SET status = 'pending', batch_id = NULL, attempts = 0")
    db.commit()
    runner.run(settings, TASKS["video.extract_frames"])
    assert json.dumps(outputs(db, "video.extract_frames"), sort_keys=True) == before

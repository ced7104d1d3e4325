"""Code versions by what a file used, instead of by source: those of the last release are translated, so that nothing is outdated
or tried again that this release reads as the last one did.

What a source or a task used last is taken for what it used of release 0.1; anything older stays, and stays outdated. The versions that
0.1 would have given are written down here for what it shipped; a source or a task of your own is taken as it is now.
"""

import logging
from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

from medallion_defs.core.code_version import CodeVersions, make_version
from medallion_defs.core.errors import MedallionError
from medallion_defs.labeling.registry import Task, load_tasks
from medallion_defs.locations.silver import load_contents
from medallion_defs.ops.scope import code_params
from medallion_defs.silver.code import FIRST_READING, versions_of

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_LOG = logging.getLogger(__name__)

SOURCES: Mapping[str, Mapping[str, str]] = {
    "articles": {"": "e8bdbc0c9e881f8b"},
    "companies": {
        "": "890d1a813c7e21fa",
        "*.csv": "41b1d7876a73b7d1",
        "*.json": "577fe4693444d5ac",
        "*.jsonl": "27fd7f9b71908598",
        "*.ndjson": "27fd7f9b71908598",
        "fhv_dispatch*.csv": "0024921d91a19890",
        "sp500_constituents*.csv": "6fe790336a18bb26",
    },
    "curricular_pages": {"": "fbeedd13079f9634"},
    "driver_events": {
        "": "890d1a813c7e21fa",
        "*.csv": "2736ae320bf7a326",
        "*.json": "91cf1adcc3cc5121",
        "*.jsonl": "75cd0e03f4165334",
        "*.ndjson": "75cd0e03f4165334",
        "fhv_dispatch*.csv": "d786663e91309ef7",
        "truck_events*.csv": "fe410f78aceb01c7",
        "uber_dispatch*.csv": "5e070d755fe558bc",
    },
    "media": {"": "2e64bcaa4de8e931"},
}
TASKS: Mapping[str, str] = {
    "audio.probe": "a747cb4cdcd0eab1",
    "frame.label": "dc22c4df40ce0d1f",
    "image.caption": "af2063ad93fe93e8",
    "image.thumbnail_phash": "9427b879566a1b85",
    "page.curricular": "c1fd9ef50099c019",
    "text.statistics": "8e3f99e31bbf95cb",
    "text.summarize": "d604e4cfdd4c33ee",
    "video.extract_frames": "e9a4476c8471c0de",
    "video.probe": "01ce9cedd9f13dea",
}

# For a file of this name, the version that the present code gives it: `versions` by the first of `patterns` (of LIKE) that fits.
PRESENT_VERSION = r"""
CREATE FUNCTION ops.present_version(filename text, patterns text[], versions text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT version FROM unnest(patterns, versions) WITH ORDINALITY AS known (pattern, version, place)
    WHERE regexp_replace(lower(regexp_replace(filename, '^.*/', '')), '\.gz$', '') LIKE pattern
    ORDER BY place LIMIT 1
$$
"""

OF_ITEMS = """
UPDATE ops.file_ingestions SET code_version = ops.present_version(coalesce(bronze_filename, external_id), :patterns, :versions)
WHERE source_type = :source_type AND code_version = (
    SELECT code_version FROM ops.file_ingestions
    WHERE source_type = :source_type AND code_version IS NOT NULL AND silver_ingest_end_time IS NOT NULL
    ORDER BY silver_ingest_end_time DESC LIMIT 1
)
"""

OF_TASKS = """
WITH last AS (
    SELECT code_version FROM silver.tasks_todo
    WHERE task_key = :task_key AND code_version IS NOT NULL ORDER BY updated_at DESC LIMIT 1
), of_events AS (
    -- What was processed and not consolidated: consolidating takes the version over.
    UPDATE silver.tasks_status AS event SET code_version = :version
    FROM silver.tasks_batches AS batch, last
    WHERE batch.batch_id = event.batch_id AND batch.task_key = :task_key AND batch.state = 'processed'
      AND event.code_version = last.code_version
)
UPDATE silver.tasks_todo SET code_version = :version FROM last
WHERE task_key = :task_key AND tasks_todo.code_version = last.code_version
"""


def upgrade() -> None:
    op.execute(PRESENT_VERSION)
    tasks = load_tasks()
    for source_type, versions in {**_of_sources(), **dict.fromkeys(("gemini_batch", "gemini_online"), _of_answers(tasks))}.items():
        op.get_bind().execute(sa.text(OF_ITEMS), {"source_type": source_type, **code_params(versions)})
    for task_key, task in tasks.items():
        values = {"task_key": task_key, "version": TASKS.get(task_key, task.code_version)}
        op.get_bind().execute(sa.text(OF_TASKS), values)


def _of_sources() -> dict[str, CodeVersions]:
    found = {}
    for content in load_contents():
        name = content.source.name
        try:
            _ = content.code  # says why where the source cannot be used
            found[name] = _as_of_the_last_release(name, versions_of(content.parser, content.table, FIRST_READING))
        except MedallionError as error:
            _LOG.warning("The code versions of %s stay as they are; its items count as outdated: %s", name, error)
    return found


def _as_of_the_last_release(source_name: str, present: CodeVersions) -> CodeVersions:
    shipped = SOURCES.get(source_name, {})
    by_pattern = tuple((pattern, shipped.get(pattern, version)) for pattern, version in present.by_pattern)
    return CodeVersions(by_pattern, shipped.get("", present.otherwise))


def _of_answers(tasks: Mapping[str, Task]) -> CodeVersions:
    by_pattern = tuple(
        (f"{key}-*", make_version("answers", 1, 1, TASKS.get(key, task.code_version))) for key, task in tasks.items() if task.spec.model
    )
    return CodeVersions(by_pattern, make_version("no task"))

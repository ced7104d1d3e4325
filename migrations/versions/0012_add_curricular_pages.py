"""Add silver.curricular_pages, the notes of success markers, and the view gold.curricular_pages."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# A view, so that an accepted answer, a verdict and a new revision of a page are there in the moment in which they hold. By LATERAL,
# so that one page asks for one hash: a plain join would first sort the results of all tasks.
GOLD = """
CREATE VIEW gold.curricular_pages AS
SELECT
    page.page_key, page.state, page.school, page.year, page.page_num,
    answer.output ->> 'subject' AS subject,
    answer.output ->> 'grade' AS grade,
    ARRAY(SELECT jsonb_array_elements_text(answer.output -> 'course_names')) AS course_names,
    ARRAY(SELECT jsonb_array_elements_text(answer.output -> 'activity_names')) AS activity_names,
    (answer.output ->> 'people_count')::integer AS people_count,
    answer.output ->> 'evidence' AS evidence,
    (answer.output ->> 'confidence')::double precision AS confidence,
    CASE WHEN answer.verdict_id IS NULL THEN 'model' ELSE 'verdict' END AS source,
    prompt.content ->> 'model' AS model,
    answer.task_id, answer.prompt_id, answer.verdict_id,
    page.content_sha256,
    page.file_id AS page_file_id, page.source_record AS page_source_record, page.change_seq AS page_change_seq,
    greatest(page.updated_at, result.updated_at, verdict.updated_at) AS updated_at
FROM silver.curricular_pages AS page
CROSS JOIN LATERAL (
    SELECT * FROM silver.tasks_current AS current
    WHERE current.task_key = 'page.curricular' AND current.media_type = 'page' AND current.file_hash = page.content_sha256
) AS answer
JOIN silver.tasks_results AS result ON result.task_id = answer.task_id
JOIN silver.tasks_prompts AS prompt ON prompt.prompt_id = answer.prompt_id
LEFT JOIN silver.tasks_verdicts AS verdict ON verdict.verdict_id = answer.verdict_id;
COMMENT ON VIEW gold.curricular_pages IS 'What is on each curricular page: the accepted answer, or what a person said instead';
"""


def upgrade() -> None:
    op.create_table(
        "curricular_pages",
        sa.Column("page_key", sa.Text(collation="C"), nullable=False, comment="state:school:year:page_num"),
        sa.Column("state", sa.Text(), nullable=False, comment="folder of the page's label"),
        sa.Column("school", sa.Text(), nullable=False, comment="folder of the page's label"),
        sa.Column("year", sa.BigInteger(), nullable=False, comment="folder of the page's label"),
        sa.Column("page_num", sa.BigInteger(), nullable=False, comment="name of the page's label"),
        sa.Column("label", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the label, parsed"),
        sa.Column("mime_type", sa.Text(), nullable=False, comment="of the image, by its content and not by its name"),
        sa.Column("bytes", sa.BigInteger(), nullable=False, comment="size of the image"),
        sa.Column("content_sha256", sa.Text(), nullable=False, comment="of key, label and image; what tasks know their input by"),
        sa.Column("bronze_path", sa.Text(collation="C"), nullable=False, comment="directory below data/bronze"),
        sa.Column("artifact", sa.Text(), nullable=False, comment="name of the image in that directory"),
        *_common_columns(),
        sa.PrimaryKeyConstraint("page_key"),
        schema="silver",
    )
    op.create_index("curricular_pages_change_seq_idx", "curricular_pages", ["change_seq"], unique=False, schema="silver")
    op.create_index("curricular_pages_file_id_idx", "curricular_pages", ["file_id"], unique=False, schema="silver")
    op.create_table(
        "tasks_markers",
        sa.Column("task_key", sa.Text(collation="C"), nullable=False),
        sa.Column("subject_key", sa.Text(collation="C"), nullable=False),
        sa.Column("task_id", sa.UUID(), nullable=False, comment="the question whose answer the marker holds"),
        sa.Column("output_md5", sa.Text(), nullable=True, comment="of the output in it; NULL: the file was there, and is somebody else's"),
        sa.Column("noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("task_key", "subject_key"),
        schema="silver",
    )
    op.create_index("tasks_markers_task_idx", "tasks_markers", ["task_id"], unique=False, schema="silver")
    op.execute("SELECT silver.watch_changes('silver.curricular_pages')")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON silver.tasks_markers TO medallion_gold")
    op.execute(GOLD)


def _common_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("file_id", sa.UUID(), nullable=False, comment="bronze item that the row is made of"),
        sa.Column(
            "source_record",
            sa.BigInteger(),
            nullable=False,
            comment="record in the item: the line it starts on, or its position in a JSON array",
        ),
        sa.Column(
            "quality_flags",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="what is odd about the row; see docs/reference/quality-flags.md",
        ),
        sa.Column("bronze_at", sa.DateTime(timezone=True), nullable=False, comment="when the item was fetched; the latest wins a key"),
        sa.Column(
            "change_seq",
            sa.BigInteger(),
            server_default=sa.text("nextval('silver.change_seq')"),
            nullable=False,
            comment="position in the change feed",
        ),
        sa.Column(
            "ingested_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the row was first written",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the row was last written",
        ),
    ]

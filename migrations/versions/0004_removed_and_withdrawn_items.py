"""Let the ledger say that an item was removed or withdrawn, when, and by which rule."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATUS = """CASE
    WHEN bronze_removed_at IS NOT NULL THEN 'removed'
    WHEN bronze_error IS NOT NULL THEN 'refused'
    WHEN bronze_withdrawn_at IS NOT NULL THEN 'withdrawn'
    WHEN silver_errors IS NOT NULL AND retry_at IS NULL THEN 'dead'
    WHEN silver_errors IS NOT NULL THEN 'retrying'
    WHEN silver_ingest_end_time IS NOT NULL THEN 'loaded'
    WHEN batch_id IS NOT NULL THEN 'claimed'
    ELSE 'pending' END"""


def upgrade() -> None:
    comments = {
        "bronze_removed_at": "when its bytes were gone",
        "bronze_removed_by": "the policy, or 'forget'; set before the first byte goes",
        "bronze_withdrawn_at": "when a person took it back; its bytes stay",
        "bronze_withdrawn_reason": None,
    }
    for name, comment in comments.items():
        kind = sa.DateTime(timezone=True) if name.endswith("_at") else sa.Text()
        op.add_column("file_ingestions", sa.Column(name, kind, nullable=True, comment=comment), schema="ops")
    # Made anew, with the indexes that rest on it: Postgres before 17 cannot change what a column is derived from.
    op.drop_column("file_ingestions", "status", schema="ops")
    op.add_column("file_ingestions", sa.Column("status", sa.Text(), sa.Computed(STATUS, persisted=True), nullable=False), schema="ops")
    op.create_index(
        "file_ingestions_open_idx", "file_ingestions", ["source_type", "status", "created_at", "file_id"],
        unique=False, schema="ops", postgresql_where=sa.text("status <> 'loaded'"),
    )  # fmt: skip
    op.create_index(
        "file_ingestions_failed_idx", "file_ingestions", ["source_type", "code_version"],
        unique=False, schema="ops", postgresql_where=sa.text("status IN ('dead', 'retrying')"),
    )  # fmt: skip
    # What was removed or withdrawn is never processed again, and a backfill must not step over it chunk by chunk.
    op.drop_index("file_ingestions_done_idx", table_name="file_ingestions", schema="ops")
    op.create_index(
        "file_ingestions_done_idx", "file_ingestions", ["source_type", "silver_ingest_end_time", "file_id"],
        unique=False, schema="ops", postgresql_where=sa.text("silver_ingest_end_time IS NOT NULL AND bronze_can_promote"),
    )  # fmt: skip
    # A removal that a kill cut short is found by it.
    op.create_index(
        "file_ingestions_removing_idx", "file_ingestions", ["source_type", "file_id"],
        unique=False, schema="ops", postgresql_where=sa.text("bronze_removed_by IS NOT NULL AND bronze_removed_at IS NULL"),
    )  # fmt: skip

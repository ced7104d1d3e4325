"""Create the ledger, the silver tables of the fleet and the first gold table."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "file_ingestions",
        sa.Column("file_id", sa.UUID(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run that fetched the item"),
        sa.Column("source_type", sa.Text(), nullable=False, comment="folder below data/bronze"),
        sa.Column("domain", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True, comment="who publishes the data"),
        sa.Column("dataset", sa.Text(), nullable=True),
        sa.Column("discriminator", sa.Text(), nullable=True),
        sa.Column("ticker", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column(
            "bronze_path", sa.Text(collation="C"), nullable=True, comment="directory below data/bronze; NULL when the file was refused"
        ),
        sa.Column("content_sha256", sa.Text(), nullable=True),
        sa.Column("bronze_rows", sa.BigInteger(), nullable=True),
        sa.Column("bronze_bytes", sa.BigInteger(), nullable=True),
        sa.Column("bronze_error", sa.Text(), nullable=True),
        sa.Column("bronze_filename", sa.Text(), nullable=True),
        sa.Column("bronze_from_date", sa.Date(), nullable=True),
        sa.Column("bronze_to_date", sa.Date(), nullable=True),
        sa.Column("bronze_ingest_start_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("bronze_ingest_end_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("bronze_can_promote", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("silver_run_id", sa.Text(), nullable=True),
        sa.Column("silver_tablename", sa.Text(), nullable=True),
        sa.Column("silver_rows_read", sa.BigInteger(), nullable=True),
        sa.Column("silver_rows_created", sa.BigInteger(), nullable=True),
        sa.Column("silver_rows_updated", sa.BigInteger(), nullable=True),
        sa.Column("silver_rows_unchanged", sa.BigInteger(), nullable=True),
        sa.Column("silver_rows_duplicate", sa.BigInteger(), nullable=True),
        sa.Column("silver_rows_rejected", sa.BigInteger(), nullable=True),
        sa.Column("silver_quality_flags", postgresql.JSONB(astext_type=sa.Text()), nullable=True, comment="rows by flag"),
        sa.Column(
            "silver_errors",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="{error_type, message} of the last failure; NULL when there is none",
        ),
        sa.Column("silver_ingest_start_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("silver_ingest_end_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("silver_can_promote", sa.Boolean(), nullable=True),
        sa.Column("gold_run_id", sa.Text(), nullable=True),
        sa.Column("gold_object_type", sa.Text(), nullable=True),
        sa.Column("gold_tablename", sa.Text(), nullable=True),
        sa.Column("gold_rows_created", sa.BigInteger(), nullable=True),
        sa.Column("gold_rows_updated", sa.BigInteger(), nullable=True),
        sa.Column("gold_errors", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("gold_ingest_start_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("gold_ingest_end_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("batch_id", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("code_version", sa.Text(), nullable=True, comment="version of the transform that last tried the item"),
        sa.Column(
            "status",
            sa.Text(),
            sa.Computed(
                "CASE\n    WHEN bronze_error IS NOT NULL THEN 'refused'\n    WHEN silver_errors IS NOT NULL AND retry_at IS NULL THEN 'dead'\n    WHEN silver_errors IS NOT NULL THEN 'retrying'\n    WHEN silver_ingest_end_time IS NOT NULL THEN 'loaded'\n    WHEN batch_id IS NOT NULL THEN 'claimed'\n    ELSE 'pending' END",
                persisted=True,
            ),
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("attempts >= 0", name="file_ingestions_attempts_check"),
        sa.CheckConstraint("retry_at IS NULL OR silver_errors IS NOT NULL", name="file_ingestions_retry_needs_error_check"),
        sa.CheckConstraint(
            "silver_rows_read = silver_rows_created + silver_rows_updated + silver_rows_unchanged + silver_rows_duplicate + silver_rows_rejected",
            name="file_ingestions_rows_reconcile_check",
        ),
        sa.PrimaryKeyConstraint("file_id"),
        sa.UniqueConstraint("source_type", "external_id", "revision"),
        schema="ops",
    )
    op.create_index(
        "file_ingestions_batch_idx",
        "file_ingestions",
        ["batch_id"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    )
    op.create_index("file_ingestions_bronze_path_idx", "file_ingestions", ["bronze_path"], unique=True, schema="ops")
    op.create_index(
        "file_ingestions_open_idx",
        "file_ingestions",
        ["source_type", "status", "created_at", "file_id"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("status <> 'loaded'"),
    )
    op.create_index(
        "file_ingestions_failed_idx",
        "file_ingestions",
        ["source_type", "code_version"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("status IN ('dead', 'retrying')"),
    )
    op.create_index(
        "file_ingestions_done_idx",
        "file_ingestions",
        ["source_type", "silver_ingest_end_time", "file_id"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("silver_ingest_end_time IS NOT NULL"),
    )
    op.create_index(
        "file_ingestions_to_date_idx",
        "file_ingestions",
        ["source_type", "bronze_to_date"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("bronze_to_date IS NOT NULL"),
    )
    op.create_index("file_ingestions_run_idx", "file_ingestions", ["run_id"], unique=False, schema="ops")
    op.create_index("file_ingestions_silver_run_idx", "file_ingestions", ["silver_run_id"], unique=False, schema="ops")
    op.create_table(
        "rejected_rows",
        sa.Column("file_id", sa.UUID(), nullable=False),
        sa.Column("source_record", sa.BigInteger(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("excerpt", sa.Text(), nullable=False, comment="start of the raw record, at most 1 KB"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("file_id", "source_record"),
        schema="silver",
    )
    op.create_table(
        "companies",
        sa.Column("company_id", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("sector", sa.Text(), nullable=True),
        sa.Column("city", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("founded_year", sa.Integer(), nullable=True),
        sa.Column("attributes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("file_id", sa.UUID(), nullable=False),
        sa.Column("source_record", sa.BigInteger(), nullable=False),
        sa.Column("quality_flags", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("bronze_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("change_seq", sa.BigInteger(), server_default=sa.text("nextval('silver.change_seq')"), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("company_id"),
        schema="silver",
    )
    op.create_index("companies_change_seq_idx", "companies", ["change_seq"], unique=False, schema="silver")
    op.create_index("companies_file_id_idx", "companies", ["file_id"], unique=False, schema="silver")
    op.create_table(
        "driver_events",
        sa.Column("event_id", sa.Text(collation="C"), nullable=False),
        sa.Column("driver_id", sa.Text(), nullable=True),
        sa.Column("vehicle_id", sa.Text(), nullable=True),
        sa.Column("company_id", sa.Text(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=True),
        sa.Column("event_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("latitude", sa.Double(), nullable=True),
        sa.Column("longitude", sa.Double(), nullable=True),
        sa.Column("speed_kmh", sa.Double(), nullable=True),
        sa.Column("attributes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("file_id", sa.UUID(), nullable=False),
        sa.Column("source_record", sa.BigInteger(), nullable=False),
        sa.Column("quality_flags", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("bronze_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("change_seq", sa.BigInteger(), server_default=sa.text("nextval('silver.change_seq')"), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
        schema="silver",
    )
    op.create_index("driver_events_change_seq_idx", "driver_events", ["change_seq"], unique=False, schema="silver")
    op.create_index("driver_events_file_id_idx", "driver_events", ["file_id"], unique=False, schema="silver")
    op.create_table(
        "driver_events_enriched",
        sa.Column("event_id", sa.Text(collation="C"), nullable=False),
        sa.Column("driver_id", sa.Text(), nullable=True),
        sa.Column("vehicle_id", sa.Text(), nullable=True),
        sa.Column("company_id", sa.Text(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=True),
        sa.Column("event_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("latitude", sa.Double(), nullable=True),
        sa.Column("longitude", sa.Double(), nullable=True),
        sa.Column("speed_kmh", sa.Double(), nullable=True),
        sa.Column("quality_flags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("company_name", sa.Text(), nullable=True),
        sa.Column("company_sector", sa.Text(), nullable=True),
        sa.Column("company_city", sa.Text(), nullable=True),
        sa.Column("company_country", sa.Text(), nullable=True),
        sa.Column(
            "match_status",
            sa.Text(),
            nullable=False,
            comment="matched; unmatched: the company is unknown so far; no_company: the event names none",
        ),
        sa.Column("event_file_id", sa.UUID(), nullable=False),
        sa.Column("event_source_record", sa.BigInteger(), nullable=False),
        sa.Column("event_change_seq", sa.BigInteger(), nullable=False),
        sa.Column("company_file_id", sa.UUID(), nullable=True),
        sa.Column("company_source_record", sa.BigInteger(), nullable=True),
        sa.Column("company_change_seq", sa.BigInteger(), nullable=True),
        sa.Column("enriched_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "match_status = CASE WHEN company_id IS NULL THEN 'no_company' WHEN company_file_id IS NULL THEN 'unmatched' ELSE 'matched' END",
            name="driver_events_enriched_match_status_check",
        ),
        sa.PrimaryKeyConstraint("event_id"),
        schema="gold",
    )
    op.create_index(
        "driver_events_enriched_company_file_id_idx", "driver_events_enriched", ["company_file_id"], unique=False, schema="gold"
    )
    op.create_index(
        "driver_events_enriched_company_id_idx", "driver_events_enriched", ["company_id", "company_change_seq"], unique=False, schema="gold"
    )
    op.create_index(
        "driver_events_enriched_event_change_seq_idx", "driver_events_enriched", ["event_change_seq"], unique=False, schema="gold"
    )
    op.create_index("driver_events_enriched_event_file_id_idx", "driver_events_enriched", ["event_file_id"], unique=False, schema="gold")
    op.execute("SELECT silver.watch_changes('silver.companies')")
    op.execute("SELECT silver.watch_changes('silver.driver_events')")

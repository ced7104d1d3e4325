-- name: fetch_time
-- Refusals are dated by when they were noted, and no item competes with them.
SELECT clock_timestamp(), (
    SELECT max(bronze_ingest_end_time) FROM ops.file_ingestions WHERE source_type = %(source_type)s AND bronze_path IS NOT NULL
)

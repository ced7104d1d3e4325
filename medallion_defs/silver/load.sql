-- Loading one microbatch into a silver table, in the order of the blocks.
--
-- {table} is the table and {key} its key; {own} are its own columns, {staged_own} and the like the same columns qualified.
-- Names that the loader adds begin with stage_, so that no column of a source can collide with them. stage_item numbers the
-- items from the oldest to the newest: of two records of a key, the greater (stage_item, source_record) wins. It is the place of
-- the item in the arrays file_ids and bronze_ats, too: a join with a table of items costs ten times as much per row.

-- name: create_stage
CREATE TEMP TABLE stage_rows ON COMMIT DROP AS
SELECT 0::bigint AS source_record, {own}, ''::text AS quality_flags, 0 AS stage_item, NULL::jsonb AS stage_rejection
FROM {table}
WITH NO DATA

-- name: create_reject_index
-- Filled while the server waits for the client; finding the few rejects by reading all rows would be time on top.
CREATE INDEX ON pg_temp.stage_rows (stage_item) WHERE stage_rejection IS NOT NULL

-- name: create_known
CREATE TEMP TABLE stage_known ON COMMIT DROP AS
SELECT {own}, quality_flags, file_id, source_record, bronze_at, false AS stage_is_current, false AS stage_is_newer, false AS stage_is_changed,
    file_id AS stage_present_file
FROM {table}
WITH NO DATA

-- name: describe_stage
SELECT * FROM pg_temp.stage_rows LIMIT 0

-- name: copy_stage
COPY pg_temp.stage_rows FROM STDIN (FORMAT binary)

-- name: set_memory
SELECT set_config('work_mem', '128MB', true), set_config('default_statistics_target', '10', true)

-- name: analyze_stage
-- Without it the planner takes the batch for a handful of rows, and joins a million of them in a nested loop.
ANALYZE pg_temp.stage_rows (stage_item, stage_rejection, {key})

-- name: discard_records
DELETE FROM pg_temp.stage_rows
WHERE stage_item = ANY(%(failed)s) OR (stage_item = ANY(%(refused)s) AND stage_rejection IS NULL)

-- name: lock_table
SELECT pg_advisory_xact_lock(%(table)s::regclass::oid::bigint), current_setting('transaction_isolation')

-- name: draw_position
-- Only now that the lock is held: every row written from here to the commit has a greater number.
SELECT nextval('silver.change_seq')

-- name: forget_rejects
DELETE FROM {rejects} WHERE file_id = ANY(%(file_ids)s)

-- name: keep_rejects
INSERT INTO {rejects} (file_id, source_record, error_code, message, excerpt)
SELECT (%(file_ids)s::uuid[])[staged.stage_item], staged.source_record, rejection.error_code, rejection.message, rejection.excerpt
FROM pg_temp.stage_rows AS staged
CROSS JOIN jsonb_to_record(staged.stage_rejection) AS rejection (error_code text, message text, excerpt text)
WHERE staged.stage_rejection IS NOT NULL

-- name: compare_known
-- The keys that silver has already: the newest staged record of each against the row there. What the same item gave when it was
-- read before counts for nothing against what it gives now.
INSERT INTO pg_temp.stage_known
SELECT DISTINCT ON ({staged_key})
    {staged_own}, {staged_flags}, staged.file_id, staged.source_record, staged.bronze_at,
    (staged.bronze_at, staged.file_id) > (present.bronze_at, present.file_id) OR staged.file_id = present.file_id,
    (staged.bronze_at, staged.file_id) > (present.bronze_at, present.file_id)
        OR (staged.file_id = present.file_id AND (staged.bronze_at, staged.source_record) <> (present.bronze_at, present.source_record)),
    ROW({staged_own}, {staged_flags}) IS DISTINCT FROM ROW({present_own}, present.quality_flags),
    present.file_id
FROM (
    SELECT *, (%(file_ids)s::uuid[])[stage_item] AS file_id, (%(bronze_ats)s::timestamptz[])[stage_item] AS bronze_at
    FROM pg_temp.stage_rows
    WHERE stage_rejection IS NULL
) AS staged
JOIN {table} AS present ON {present_key} = {staged_key}
ORDER BY {staged_key}, staged.stage_item DESC, staged.source_record DESC

-- name: insert_new
-- In key order: pages of the key's index are then filled one after another, which is worth more than anything a client can do.
-- What can be worked out after the sort is not carried through it.
INSERT INTO {table} ({own}, quality_flags, file_id, source_record, bronze_at)
SELECT
    {staged_own}, {staged_flags},
    (%(file_ids)s::uuid[])[staged.stage_item], staged.source_record, (%(bronze_ats)s::timestamptz[])[staged.stage_item]
FROM (
    SELECT DISTINCT ON ({staged_key}) *
    FROM pg_temp.stage_rows AS staged
    WHERE stage_rejection IS NULL
      AND NOT EXISTS (SELECT FROM pg_temp.stage_known AS known WHERE {known_key} = {staged_key})
    ORDER BY {staged_key}, stage_item DESC, source_record DESC
) AS staged

-- name: count_created
-- From the change feed: cheaper than RETURNING, which would keep a copy of every row. The upper bound excludes nothing; without
-- it the planner takes a third of a table that nobody has analyzed yet for new, and reads all of it for a batch of one row.
SELECT file_id, count(*)
FROM {table}
WHERE change_seq BETWEEN %(position)s AND 9223372036854775807
GROUP BY file_id

-- name: update_known
-- A newer record of the same content is written too: the row then names the newest file, whatever the order of arrival.
UPDATE {table} AS present
SET ({own}, quality_flags, file_id, source_record, bronze_at, change_seq, updated_at) =
    ROW({known_own}, known.quality_flags, known.file_id, known.source_record, known.bronze_at, nextval('silver.change_seq'), now())
FROM pg_temp.stage_known AS known
WHERE {present_key} = {known_key} AND (known.stage_is_newer OR (known.stage_is_current AND known.stage_is_changed))

-- name: count_known
SELECT file_id, count(*) FILTER (WHERE stage_is_changed), count(*) FILTER (WHERE NOT stage_is_changed)
FROM pg_temp.stage_known
WHERE stage_is_current
GROUP BY file_id

-- name: drop_stage
DROP TABLE pg_temp.stage_rows, pg_temp.stage_known

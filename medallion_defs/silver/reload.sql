-- What a load does besides where it reads items again, and where several items have one key. A first load of new keys runs none of it.
--
-- Placeholders as in load.sql; {seed} keeps the keys of tables apart. silver.runners_up says which items made a key whose row is
-- another item's: when that row goes, they are read again. A hash, since the note is a hint: of two keys with one hash an item is read
-- in vain, and nothing else comes of it.

-- name: find_reloaded
SELECT item.file_id FROM unnest(%(complete)s::uuid[]) AS item (file_id)
WHERE EXISTS (SELECT FROM {table} AS present WHERE present.file_id = item.file_id)

-- name: delete_unmade
-- The rows of items that no longer make them. The trigger on the table notes the keys for gold.
WITH gone AS (
    DELETE FROM {table} AS present
    WHERE present.file_id = ANY(%(reloaded)s)
      AND NOT EXISTS (
          SELECT FROM pg_temp.stage_rows AS staged
          WHERE staged.stage_rejection IS NULL AND {staged_key} = {present_key}
            AND (%(file_ids)s::uuid[])[staged.stage_item] = present.file_id)
    RETURNING {present_key} AS key, present.file_id
), runner AS (
    DELETE FROM silver.runners_up AS runner USING gone
    WHERE runner.key_hash = hashtextextended(gone.key, {seed})
    RETURNING runner.file_id AS runner_up, gone.file_id
), of_any_key AS (
    SELECT runner.file_id AS runner_up FROM silver.runners_up AS runner
    WHERE runner.key_hash = {any_key} AND EXISTS (SELECT FROM gone)
)
SELECT gone.file_id, count(*) AS deleted,
    ARRAY(
        SELECT runner_up FROM runner WHERE runner.file_id = gone.file_id UNION SELECT runner_up FROM of_any_key
        EXCEPT SELECT unnest(%(complete)s::uuid[])
    ) AS runners_up
FROM gone GROUP BY gone.file_id

-- name: note_known
-- Of the keys that silver had from another item: the one of the two that lost.
INSERT INTO silver.runners_up (key_hash, file_id)
SELECT DISTINCT hashtextextended({known_key}, {seed}), CASE WHEN known.stage_is_current THEN known.stage_present_file ELSE known.file_id END
FROM pg_temp.stage_known AS known
WHERE known.stage_present_file <> known.file_id
ORDER BY 1, 2
ON CONFLICT DO NOTHING

-- name: note_staged
-- Of the keys that several items of the batch have: all but the newest of them.
INSERT INTO silver.runners_up (key_hash, file_id)
SELECT DISTINCT hashtextextended(shared.key, {seed}), (%(file_ids)s::uuid[])[staged.stage_item]
FROM (
    SELECT {staged_key} AS key, max(staged.stage_item) AS newest FROM pg_temp.stage_rows AS staged
    WHERE staged.stage_rejection IS NULL
    GROUP BY {staged_key} HAVING min(staged.stage_item) < max(staged.stage_item)
) AS shared
JOIN pg_temp.stage_rows AS staged ON {staged_key} = shared.key AND staged.stage_item < shared.newest AND staged.stage_rejection IS NULL
ORDER BY 1, 2
ON CONFLICT DO NOTHING

-- name: forget_any_key
-- Now its keys are noted one by one.
DELETE FROM silver.runners_up WHERE key_hash = {any_key} AND file_id = ANY(%(complete)s)

-- name: delete_rows_of
-- All rows of items that are taken away, and who is to be read again because of it.
WITH gone AS (
    DELETE FROM {table} AS present WHERE present.file_id = ANY(%(file_ids)s) RETURNING {present_key} AS key
), runner AS (
    DELETE FROM silver.runners_up AS runner USING gone
    WHERE runner.key_hash = hashtextextended(gone.key, {seed})
    RETURNING runner.file_id AS runner_up
)
SELECT count(*) AS deleted,
    ARRAY(
        SELECT runner_up FROM runner
        UNION SELECT file_id FROM silver.runners_up WHERE key_hash = {any_key} AND EXISTS (SELECT FROM gone)
        EXCEPT SELECT unnest(%(file_ids)s::uuid[])
    ) AS runners_up
FROM gone

-- name: prune_vanished
-- What all that follow a table have followed, and what is of a table that nothing follows. Keys may be names that a person wrote.
DELETE FROM silver.vanished_rows AS vanished
WHERE change_seq <= ALL (
    SELECT coalesce(known.cursor::bigint, 0)
    FROM unnest(%(consumers)s::text[], %(tables)s::text[]) AS follower (name, table_name)
    LEFT JOIN ops.cursors AS known ON known.name = follower.name
    WHERE follower.table_name = vanished.table_name
)

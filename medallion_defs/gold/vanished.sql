-- What gold makes of silver rows that were deleted. silver.vanished_rows has their keys, with positions in the change feed; how far
-- gold has followed each silver table is noted in ops.cursors, in gold's own transaction.
--
-- Each table has a position of its own: only of one table is the order of positions the order of commits.
-- COLLATE: the gold columns have the database's collation, and their indexes with it; keys of silver are "C".

-- name: position
SELECT coalesce((SELECT cursor::bigint FROM ops.cursors WHERE name = %(name)s), 0)

-- name: next
SELECT max(change_seq)
FROM (
    SELECT change_seq FROM silver.vanished_rows
    WHERE table_name = %(table)s AND change_seq > %(vanished_after)s
    ORDER BY change_seq LIMIT %(max_keys)s
) AS next

-- name: delete_subjects
DELETE FROM {gold} AS gold USING silver.vanished_rows AS vanished
WHERE vanished.table_name = %(table)s AND vanished.change_seq > %(vanished_after)s AND vanished.change_seq <= %(vanished_until)s
    AND gold.{subject_key} = vanished.key COLLATE pg_catalog."default"
    AND NOT EXISTS (SELECT FROM {subject} AS subject WHERE subject.{subject_key} = gold.{subject_key})

-- name: keys_of_lookups
SELECT gold.{subject_key} FROM {gold} AS gold JOIN silver.vanished_rows AS vanished
    ON gold.{lookup_key} = vanished.key COLLATE pg_catalog."default"
WHERE vanished.table_name = %(table)s AND vanished.change_seq > %(vanished_after)s AND vanished.change_seq <= %(vanished_until)s

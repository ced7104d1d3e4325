-- name: share_lock
SELECT pg_try_advisory_xact_lock_shared(%(gold)s::regclass::bigint)

-- name: subject_position
SELECT coalesce(max({subject_seq}), 0) FROM {gold}

-- name: subject_until
SELECT max(change_seq)
FROM (SELECT change_seq FROM {subject} WHERE change_seq > %(after)s ORDER BY change_seq LIMIT %(max_rows)s) AS next

-- name: lookup_range
-- Gold rows made with another version of their lookup row, in the order in which the lookup rows changed. A row whose subject
-- has changed too is left to the subject's side, which joins afresh; one whose subject is gone, to the reconciliation.
-- Two branches, not IS DISTINCT FROM: each is a range of an index on (lookup key, lookup change_seq), where there is one.
-- LIMIT 1 keeps the probe of the subject a probe: as a join the planner would hash the whole table.
-- COLLATE: the gold column has the database's collation and its index with it; the silver key is "C".
WITH stale AS (
    SELECT looked.change_seq
    FROM {lookup} AS looked
    CROSS JOIN LATERAL (
        SELECT gold.{subject_key}, gold.{subject_seq}
        FROM {gold} AS gold
        WHERE gold.{lookup_key} = looked.{lookup_key} COLLATE pg_catalog."default" AND gold.{lookup_seq} IS NULL
        UNION ALL
        SELECT gold.{subject_key}, gold.{subject_seq}
        FROM {gold} AS gold
        WHERE gold.{lookup_key} = looked.{lookup_key} COLLATE pg_catalog."default" AND gold.{lookup_seq} < looked.change_seq
    ) AS gold
    CROSS JOIN LATERAL (
        SELECT FROM {subject} AS subject WHERE subject.{subject_key} = gold.{subject_key} AND subject.change_seq = gold.{subject_seq} LIMIT 1
    ) AS subject
    WHERE looked.change_seq > %(after)s
    ORDER BY looked.change_seq
    LIMIT %(max_rows)s + 1
)
SELECT
    (SELECT coalesce(max(change_seq), 0) FROM {lookup}) AS newest,
    count(*) AS stale_rows,
    min(change_seq) AS first,
    max(change_seq) AS last,
    (SELECT max(change_seq) FROM stale WHERE change_seq < (SELECT max(change_seq) FROM stale)) AS last_but_one
FROM stale

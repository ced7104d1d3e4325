-- name: estimate_rows
SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = %(table)s::regclass

-- name: count_rows
SELECT count(*) FROM {table}

-- name: find_references
-- The catalogue and not information_schema, which shows a role only what it has rights on.
SELECT namespace.nspname, class.relname, attribute.attname
FROM pg_attribute AS attribute
JOIN pg_class AS class ON class.oid = attribute.attrelid AND class.relkind IN ('r', 'p') AND NOT class.relispartition
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE namespace.nspname = ANY (%(schemas)s) AND attribute.attnum > 0 AND NOT attribute.attisdropped
  AND attribute.atttypid = 'uuid'::regtype AND attribute.attname ~ %(name)s

-- name: traced
SELECT wanted.file_id FROM unnest(%(file_ids)s::uuid[]) AS wanted (file_id)
WHERE EXISTS (SELECT FROM {table} AS row WHERE row.{column} = wanted.file_id)

-- name: derived
SELECT DISTINCT row.{role} FROM {table} AS row WHERE row.{column} = ANY (%(file_ids)s) AND row.{role} IS NOT NULL

-- name: count
SELECT count(*) FROM {table} AS row WHERE row.{column} = ANY (%(ids)s)

-- name: delete
DELETE FROM {table} AS row WHERE row.{column} = ANY (%(ids)s)

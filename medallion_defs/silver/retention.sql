-- name: count_rejects
SELECT count(*), min(created_at) FROM silver.rejected_rows WHERE created_at < %(before)s

-- name: delete_rejects
DELETE FROM silver.rejected_rows
WHERE ctid = ANY (ARRAY(SELECT ctid FROM silver.rejected_rows WHERE created_at < %(before)s LIMIT %(limit)s))

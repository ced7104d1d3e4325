-- name: rejects_by_code
SELECT error_code, count(*)
FROM silver.rejected_rows
WHERE file_id = ANY(%(file_ids)s)
GROUP BY 1
ORDER BY 2 DESC, 1

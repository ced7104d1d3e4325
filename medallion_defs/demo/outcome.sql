-- name: items
SELECT
    source_type,
    count(*) FILTER (WHERE status = 'loaded') AS loaded,
    count(*) FILTER (WHERE status = 'dead') AS dead,
    count(*) FILTER (WHERE status NOT IN ('loaded', 'dead', 'refused', 'withdrawn', 'removed')) AS open,
    coalesce(sum(silver_rows_read) FILTER (WHERE status = 'loaded'), 0)::bigint AS read,
    coalesce(sum(silver_rows_created), 0)::bigint AS created,
    coalesce(sum(silver_rows_updated), 0)::bigint AS updated,
    coalesce(sum(silver_rows_unchanged + silver_rows_duplicate), 0)::bigint AS repeated,
    coalesce(sum(silver_rows_rejected) FILTER (WHERE status = 'loaded'), 0)::bigint AS rejected
FROM ops.file_ingestions
WHERE external_id LIKE %(prefix)s
GROUP BY 1

-- name: reject_codes
SELECT rejected.error_code, count(*)
FROM silver.rejected_rows AS rejected
JOIN ops.file_ingestions AS item USING (file_id)
WHERE item.external_id LIKE %(prefix)s
GROUP BY 1

-- name: flags
SELECT flag, count(*)
FROM silver.driver_events AS event
JOIN ops.file_ingestions AS item USING (file_id)
CROSS JOIN unnest(event.quality_flags) AS flag
WHERE item.external_id LIKE %(prefix)s
GROUP BY 1

-- name: matches
SELECT gold.match_status, count(*)
FROM gold.driver_events_enriched AS gold
JOIN ops.file_ingestions AS item ON item.file_id = gold.event_file_id
WHERE item.external_id LIKE %(prefix)s
GROUP BY 1

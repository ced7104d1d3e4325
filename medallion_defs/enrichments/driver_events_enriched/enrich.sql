-- name: rows
SELECT
    event.event_id,
    event.driver_id,
    event.vehicle_id,
    event.company_id,
    event.event_type,
    event.event_at,
    event.latitude,
    event.longitude,
    event.speed_kmh,
    event.quality_flags,
    company.name AS company_name,
    company.sector AS company_sector,
    company.city AS company_city,
    company.country AS company_country,
    CASE
        WHEN event.company_id IS NULL THEN 'no_company'
        WHEN company.company_id IS NULL THEN 'unmatched'
        ELSE 'matched'
    END AS match_status,
    event.file_id AS event_file_id,
    event.source_record AS event_source_record,
    event.change_seq AS event_change_seq,
    company.file_id AS company_file_id,
    company.source_record AS company_source_record,
    company.change_seq AS company_change_seq
FROM silver.driver_events AS event
LEFT JOIN silver.companies AS company ON company.company_id = event.company_id

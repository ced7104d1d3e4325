-- name: waits_since
-- Positions rise with the order of commits, so the first row that is new is the one that waits longest.
SELECT least(
    (SELECT updated_at FROM {subject} WHERE change_seq > %(subject_after)s ORDER BY change_seq LIMIT 1),
    (
        SELECT updated_at FROM {lookup}
        WHERE change_seq > %(lookup_after)s AND change_seq <= %(lookup_until)s ORDER BY change_seq LIMIT 1
    )
)

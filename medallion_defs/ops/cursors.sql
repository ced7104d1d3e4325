-- name: is_noted
SELECT FROM ops.cursors WHERE name = %(name)s AND cursor = %(cursor)s

-- name: note
-- A cursor that stands still writes nothing.
INSERT INTO ops.cursors AS known (name, cursor) VALUES (%(name)s, %(cursor)s)
ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor, moved_at = now() WHERE known.cursor <> excluded.cursor

-- name: delete_orphans_of
DELETE FROM {gold} AS gold
WHERE gold.{subject_file} = ANY (%(file_ids)s)
    AND NOT EXISTS (SELECT FROM {subject} AS subject WHERE subject.{subject_key} = gold.{subject_key})

-- name: keys_of
SELECT gold.{subject_key} FROM {gold} AS gold WHERE gold.{subject_file} = ANY (%(file_ids)s)
UNION
SELECT gold.{subject_key} FROM {gold} AS gold WHERE gold.{lookup_file} = ANY (%(file_ids)s)

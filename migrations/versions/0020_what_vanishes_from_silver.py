"""Note the keys whose rows are deleted from silver, for gold, and the items that made a key whose row is another item's.

Which keys the items have that are loaded already nobody can say without reading them: each counts as a runner-up of any key until it
is loaded again. An index finds the latest fetch of a source.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

# The table's name, not its oid, which changes when a dump is restored. Transition tables are seen by dynamic SQL, too.
NOTE_VANISHED = """
CREATE FUNCTION silver.note_vanished() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO silver.vanished_rows AS known (table_name, key, change_seq)
        SELECT %L, %I, nextval(''silver.change_seq'') FROM gone ORDER BY 2
        ON CONFLICT (table_name, key) DO UPDATE SET change_seq = excluded.change_seq', TG_TABLE_NAME, TG_ARGV[0]);
    RETURN NULL;
END $$;
"""

# Tables of rows that are made of records: the others under the change feed are the tasks', which are nobody's input by key.
WATCH_DELETIONS = """
CREATE FUNCTION silver.watch_deletions(watched regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    key_column text := (
        SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
        WHERE indrelid = watched AND indisprimary AND indnkeyatts = 1);
BEGIN
    IF key_column IS NULL OR NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = watched AND attname = 'source_record' AND NOT attisdropped
    ) THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TRIGGER lock_deletions BEFORE DELETE ON %s
        FOR EACH STATEMENT EXECUTE FUNCTION silver.lock_change_feed()', watched);
    EXECUTE format('CREATE TRIGGER note_vanished AFTER DELETE ON %s REFERENCING OLD TABLE AS gone
        FOR EACH STATEMENT EXECUTE FUNCTION silver.note_vanished(%L)', watched, key_column);
END $$;
"""

WATCH_CHANGES = """
CREATE OR REPLACE FUNCTION silver.watch_changes(watched regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER lock_change_feed BEFORE INSERT OR UPDATE ON %s
        FOR EACH STATEMENT EXECUTE FUNCTION silver.lock_change_feed()', watched);
    EXECUTE format('CREATE TRIGGER advance_change_seq BEFORE UPDATE ON %s FOR EACH ROW
        WHEN (NEW.change_seq = OLD.change_seq) EXECUTE FUNCTION silver.advance_change_seq()', watched);
    PERFORM silver.watch_deletions(watched);
END $$;
"""

WATCH_ALL = """
SELECT silver.watch_deletions(tgrelid) FROM pg_trigger WHERE tgname = 'lock_change_feed' AND NOT tgisinternal
"""

UNWATCH_ALL = """
DO $$ DECLARE known regclass; BEGIN
    FOR known IN SELECT tgrelid FROM pg_trigger WHERE tgname = 'note_vanished' AND NOT tgisinternal LOOP
        EXECUTE format('DROP TRIGGER lock_deletions ON %s', known);
        EXECUTE format('DROP TRIGGER note_vanished ON %s', known);
    END LOOP;
END $$
"""

LOADED = """
INSERT INTO silver.runners_up (key_hash, file_id)
SELECT hashtextextended(split_part(silver_tablename, '.', 2), 1), file_id
FROM ops.file_ingestions
WHERE silver_tablename LIKE 'silver.%' AND status = 'loaded' AND silver_rows_read > silver_rows_rejected
  AND EXISTS (
      SELECT FROM pg_trigger WHERE tgrelid = to_regclass(silver_tablename) AND tgname = 'note_vanished')
"""


def upgrade() -> None:
    op.create_table(
        "vanished_rows",
        sa.Column("table_name", sa.Text(collation="C"), nullable=False, comment="in schema silver"),
        sa.Column("key", sa.Text(collation="C"), nullable=False, comment="of the row that was deleted; it may have come back since"),
        sa.Column("change_seq", sa.BigInteger(), nullable=False, comment="position in the change feed of the last deletion"),
        sa.PrimaryKeyConstraint("table_name", "key"),
        schema="silver",
    )
    op.create_index("vanished_rows_change_seq_idx", "vanished_rows", ["table_name", "change_seq"], unique=False, schema="silver")
    op.create_table(
        "runners_up",
        sa.Column("key_hash", sa.BigInteger(), nullable=False, comment="of a table's key; see silver/reload.sql"),
        sa.Column("file_id", sa.UUID(), nullable=False, comment="item that made the key; the row is a newer item's"),
        sa.PrimaryKeyConstraint("key_hash", "file_id"),
        schema="silver",
    )
    op.create_index(
        "file_ingestions_fetched_idx",
        "file_ingestions",
        ["source_type", "bronze_ingest_end_time"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("bronze_path IS NOT NULL"),
    )
    for statement in (NOTE_VANISHED, WATCH_DELETIONS, WATCH_CHANGES, WATCH_ALL, LOADED):
        op.execute(statement)


def downgrade() -> None:
    op.execute(UNWATCH_ALL)
    op.execute(WATCH_CHANGES.replace("    PERFORM silver.watch_deletions(watched);\n", ""))
    op.execute("DROP FUNCTION silver.watch_deletions(regclass); DROP FUNCTION silver.note_vanished()")
    op.drop_index("file_ingestions_fetched_idx", "file_ingestions", schema="ops")
    op.drop_table("runners_up", schema="silver")
    op.drop_table("vanished_rows", schema="silver")

"""Create the schemas, one role per layer, the change feed's sequence and the trigger that guards it.

The change feed: `change_seq` is drawn from one sequence while the writer holds the table's advisory lock, which it
keeps until it commits. So numbers become visible in ascending order, a reader that has seen n has seen all below n,
and, being plain data, positions survive dump and restore.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMAS_AND_ROLES = """
CREATE SCHEMA IF NOT EXISTS ops;
CREATE SCHEMA IF NOT EXISTS silver;
CREATE SCHEMA IF NOT EXISTS gold;

DO $$
DECLARE name text;
BEGIN
    -- Roles belong to the server, not to the database: another Medallion on the same server may have made them.
    FOREACH name IN ARRAY ARRAY['medallion_bronze', 'medallion_silver', 'medallion_gold', 'medallion_console'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
        -- Only what is missing is granted: concurrent GRANTs of the same role fail with "tuple concurrently updated".
        IF NOT pg_has_role(current_user, name, 'SET') THEN
            EXECUTE format('GRANT %I TO current_user', name);
        END IF;
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA ops, silver, gold TO medallion_bronze, medallion_silver, medallion_gold, medallion_console;

ALTER DEFAULT PRIVILEGES IN SCHEMA ops GRANT SELECT ON TABLES TO medallion_console;
ALTER DEFAULT PRIVILEGES IN SCHEMA silver GRANT SELECT ON TABLES TO medallion_console;
ALTER DEFAULT PRIVILEGES IN SCHEMA gold GRANT SELECT ON TABLES TO medallion_console;

ALTER DEFAULT PRIVILEGES IN SCHEMA ops GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO medallion_bronze, medallion_silver, medallion_gold;

ALTER DEFAULT PRIVILEGES IN SCHEMA silver GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO medallion_silver;
ALTER DEFAULT PRIVILEGES IN SCHEMA silver GRANT SELECT ON TABLES TO medallion_gold;
ALTER DEFAULT PRIVILEGES IN SCHEMA silver GRANT USAGE, SELECT ON SEQUENCES TO medallion_silver;

ALTER DEFAULT PRIVILEGES IN SCHEMA gold GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO medallion_gold;
"""

CHANGE_FEED = """
CREATE SEQUENCE silver.change_seq AS bigint CACHE 1;

-- BEFORE each statement that writes: no number is drawn before the lock is held. The loader takes the same lock itself,
-- earlier; this trigger is for everybody else, a person with psql included.
CREATE FUNCTION silver.lock_change_feed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(TG_RELID::bigint);
    RETURN NULL;
END $$;

-- An UPDATE that does not draw a number itself gets one here.
CREATE FUNCTION silver.advance_change_seq() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.change_seq := nextval('silver.change_seq');
    NEW.updated_at := now();
    RETURN NEW;
END $$;

-- Puts a silver table under the change feed. The WHEN clause is evaluated without a call: the loader's updates, which
-- draw a number themselves, pay nothing for it.
CREATE FUNCTION silver.watch_changes(watched regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER lock_change_feed BEFORE INSERT OR UPDATE ON %s
        FOR EACH STATEMENT EXECUTE FUNCTION silver.lock_change_feed()', watched);
    EXECUTE format('CREATE TRIGGER advance_change_seq BEFORE UPDATE ON %s FOR EACH ROW
        WHEN (NEW.change_seq = OLD.change_seq) EXECUTE FUNCTION silver.advance_change_seq()', watched);
END $$;
"""


def upgrade() -> None:
    op.execute(SCHEMAS_AND_ROLES)
    op.execute(CHANGE_FEED)

"""Two more roles: medallion_sql for questions of people, medallion_review for their verdicts.

Whether a role may log in is not the database's business but the server's: the embedded Postgres gives each a password at its
start, another server's administrator does.
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

ROLES = """
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['medallion_sql', 'medallion_review'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
        IF NOT pg_has_role(current_user, name, 'SET') THEN
            EXECUTE format('GRANT %I TO current_user', name);
        END IF;
    END LOOP;
END $$;
"""

RIGHTS = """
GRANT USAGE ON SCHEMA ops, silver, silver_experiments, gold TO medallion_sql, medallion_review;
GRANT SELECT ON ALL TABLES IN SCHEMA ops, silver, silver_experiments, gold TO medallion_sql, medallion_review;
ALTER DEFAULT PRIVILEGES IN SCHEMA ops, silver, silver_experiments, gold GRANT SELECT ON TABLES TO medallion_sql, medallion_review;
ALTER DEFAULT PRIVILEGES FOR ROLE medallion_silver IN SCHEMA silver_experiments
    GRANT SELECT ON TABLES TO medallion_sql, medallion_review;
GRANT INSERT, UPDATE ON silver.tasks_verdicts TO medallion_review;
GRANT USAGE ON SEQUENCE silver.change_seq TO medallion_review;
"""


def upgrade() -> None:
    op.execute(ROLES)
    op.execute(RIGHTS)

"""Create the schema of experiments with variants of transforms, and what a variant has loaded.

The tables of one variant are made by the run that fills them and dropped by a command, so they are in no migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# The silver role makes the tables, so the default privileges of what it makes are set, beside those of the owner's.
SCHEMA = """
CREATE SCHEMA IF NOT EXISTS silver_experiments;
GRANT USAGE, CREATE ON SCHEMA silver_experiments TO medallion_silver;
GRANT USAGE ON SCHEMA silver_experiments TO medallion_gold, medallion_console;
ALTER DEFAULT PRIVILEGES IN SCHEMA silver_experiments GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO medallion_silver;
ALTER DEFAULT PRIVILEGES IN SCHEMA silver_experiments GRANT SELECT ON TABLES TO medallion_gold, medallion_console;
ALTER DEFAULT PRIVILEGES FOR ROLE medallion_silver IN SCHEMA silver_experiments GRANT SELECT ON TABLES TO medallion_gold, medallion_console;
"""


def upgrade() -> None:
    op.execute(SCHEMA)
    op.create_table(
        "variant_loads",
        sa.Column("source_type", sa.Text(), nullable=False, comment="the source"),
        sa.Column("variant", sa.Text(), nullable=False, comment="the variant of its transform"),
        sa.Column("file_id", sa.UUID(), nullable=False, comment="the bronze item"),
        sa.Column("run_id", sa.Text(), nullable=False, comment="the run that loaded the item last"),
        sa.Column("code_version", sa.Text(), nullable=False, comment="of the variant; all items of a variant have the same"),
        sa.Column("rows_read", sa.BigInteger(), nullable=False, comment="created + updated + unchanged + duplicate + rejected"),
        sa.Column("rows_created", sa.BigInteger(), nullable=False, comment="keys that the variant's table did not have"),
        sa.Column("rows_updated", sa.BigInteger(), nullable=False, comment="newest of their key, and other content than the row there"),
        sa.Column("rows_unchanged", sa.BigInteger(), nullable=False, comment="newest of their key, the same content"),
        sa.Column("rows_duplicate", sa.BigInteger(), nullable=False, comment="lost against a newer record of their key"),
        sa.Column("rows_rejected", sa.BigInteger(), nullable=False, comment="records that cannot be a row"),
        sa.Column("error", sa.Text(), nullable=True, comment="why nothing of the item is in the variant's table; NULL when it is"),
        sa.Column(
            "loaded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when the item was tried last"
        ),
        sa.PrimaryKeyConstraint("source_type", "variant", "file_id"),
        schema="silver_experiments",
    )

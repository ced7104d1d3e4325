"""Note the cursors of sensors beside the data that they speak of: a restored database knows which are newer than it is."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cursors",
        sa.Column("name", sa.Text(), nullable=False, comment="of the sensor"),
        sa.Column("cursor", sa.Text(), nullable=False, comment="as Dagster has it; any other that Dagster may have is none"),
        sa.Column("moved_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        schema="ops",
    )

"""The tables `deployments` and `events`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "deployments",
        sa.Column("user_id", _KEY, primary_key=True),
        sa.Column("project_id", _KEY, primary_key=True),
        sa.Column("want", sa.Text, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("spec", sa.Text),
        sa.Column("spec_digest", sa.Text, nullable=False),
        sa.Column("origins", sa.Text, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("due", sa.Double, nullable=False),
        sa.Column("tries", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("updated", sa.Double, nullable=False),
    )
    op.create_index("deployments_due", "deployments", ["due"])
    op.create_index("deployments_updated", "deployments", ["updated"])
    op.create_table(
        "events",
        sa.Column("sequence", _SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("user_id", _KEY, nullable=False),
        sa.Column("project_id", _KEY, nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("problem", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("events_of_project", "events", ["user_id", "project_id", "sequence"])


def downgrade() -> None:
    op.drop_table("events")
    op.drop_table("deployments")

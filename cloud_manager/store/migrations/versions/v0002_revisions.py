"""The table `revisions`, and what a rollback pins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("deployments", sa.Column("pinned", sa.Text))
    op.create_table(
        "revisions",
        sa.Column("user_id", _KEY, primary_key=True),
        sa.Column("project_id", _KEY, primary_key=True),
        sa.Column("revision", _KEY, primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("spec", sa.Text),
        sa.Column("spec_digest", sa.Text, nullable=False),
        sa.Column("origins", sa.Text, nullable=False),
        sa.Column("image", sa.Text),
        sa.Column("image_uri", sa.Text),
        sa.Column("resolved_uri", sa.Text),
        sa.Column("first_running", sa.Double, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("until", sa.Double),
    )


def downgrade() -> None:
    op.drop_table("revisions")
    op.drop_column("deployments", "pinned")

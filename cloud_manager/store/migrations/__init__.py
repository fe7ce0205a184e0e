"""Alembic migrations, run when the store is opened (`open.py`)."""

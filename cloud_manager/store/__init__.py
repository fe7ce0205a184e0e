"""Rows, events and ownership, over SQLite or PostgreSQL by one code path."""

"""The only code that opens DuckDB; one module a subject, with its SQL beside its functions."""

from fercore.store.connection import Store, now, query_sealed

__all__ = ["Store", "now", "query_sealed"]

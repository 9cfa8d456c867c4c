"""The checker: proves from outside that log, Postgres, ClickHouse and the simulated exchange say the same.

Raw clients and fastavro only. Nothing here imports SKEET's core, schemas or projections (only its configuration), so that
a mistake in them cannot hide itself. It compares sums and keys; it does not fold the log a second time.
"""

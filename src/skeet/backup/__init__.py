"""Backups of an installation: every record of every topic, consumers' positions, the registry, the simulated exchange.

``create`` reads the log as a read_committed consumer does, up to a moment at which no account topic moved. ``restore`` writes
it into empty brokers so that each record stands at its old offset (docs/adr/0007-restored-offsets.md): positions, ``cause_at``
and the stores' own positions mean what they meant. Postgres and ClickHouse are not in it: they are rebuilt from the log.
"""

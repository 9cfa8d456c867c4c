"""What the connection settings mean to each client library: TLS, credentials, and errors that name the setting.

Part of the settings, so that verify's raw clients use it too; every client of Kafka, Postgres, ClickHouse and the registry
takes its options from here. No secret stands in a message: a library's text is quoted only where it can hold none, and the
error it came from is not kept.
"""

"""The platform on one machine: starts Kafka, the registry, Postgres, ClickHouse and every role, and keeps them up."""

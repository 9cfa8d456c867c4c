"""Kafka: the table of topics, clients, reading, publishing, the transactional loop, the Faust adapter."""

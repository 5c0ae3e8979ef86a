"""Connectors: what brings rows into Kafka. They import contracts, schedule, config and kafka; never the
reverse."""

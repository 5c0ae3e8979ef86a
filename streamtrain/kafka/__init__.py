"""All that talks to Kafka: clients, topics, the marker log, transactions, the embedded broker. Its errors are ours."""

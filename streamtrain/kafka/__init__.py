"""The one door to Kafka: clients, topics, the embedded broker. Its errors leave as ours."""

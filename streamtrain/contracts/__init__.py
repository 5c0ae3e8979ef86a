"""What one process, or one version, says to another: formats in Kafka and on disk, phases, reports. Pure."""

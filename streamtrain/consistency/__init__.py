"""Whether online and offline predictions agree: in the trainer, or by a command of its own."""

"""What one worker does with a job: the pass loop, its checkpoints, its inference models, their upkeep."""

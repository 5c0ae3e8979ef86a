"""The recount: the proof from outside, from the source files and the checkpoint alone. It shares no code with the
rest but the errors; `job` is the one place where it meets a config."""

"""The command `streamtrain`: one module a command. Modules import what they need when they run, so that
`streamtrain --help` needs neither Paddle nor Kafka."""

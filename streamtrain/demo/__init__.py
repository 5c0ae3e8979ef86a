"""The demo: MovieLens-100K as a stream, killed in the middle, recounted at the end; and a seeded generator of logs."""

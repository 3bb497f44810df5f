"""What a sweep has come to, as a table: pure functions from the outcomes of its jobs."""

"""What HTTP asks of every route: problems, conditions, keys, limits, and how answers look."""

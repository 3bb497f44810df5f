"""`make demo`: real training jobs over HTTP, a table and a plot."""

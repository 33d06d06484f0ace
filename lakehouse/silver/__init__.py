"""Silver: provider-independent facts, one file a table."""

"""Gold: what is computed from silver, one file a table with its contract and the pure function that builds it."""

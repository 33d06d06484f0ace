"""Where people and machines begin: the command line, compose, the runbook."""

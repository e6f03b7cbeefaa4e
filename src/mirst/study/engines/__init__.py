"""Where the trials of a study run."""

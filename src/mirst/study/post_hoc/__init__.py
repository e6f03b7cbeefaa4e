"""What is done to every model of a finished study."""

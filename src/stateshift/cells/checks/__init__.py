"""What an experiment really holds, and what is wrong with it."""

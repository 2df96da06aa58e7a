"""Members of the stack over tables of calls."""

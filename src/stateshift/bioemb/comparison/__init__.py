"""BioEmb beside what is cheaper, on labels: one table, one plot."""

"""Effects that exist already: published tables, matrices and h5ad files."""

"""What is asked of a run: which pairs, of which cells, by which vectors, and what stands behind them."""

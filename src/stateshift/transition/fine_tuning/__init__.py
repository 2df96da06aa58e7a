"""A trained model to start from, and its weights in another."""

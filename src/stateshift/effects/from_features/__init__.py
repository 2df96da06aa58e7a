"""Effects from the features of what is perturbed."""

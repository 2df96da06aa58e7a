"""What happens from the first step of a training to the last."""

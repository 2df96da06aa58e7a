"""ESM2: checkpoints in, a network out that gives residue rows, logits and contacts."""

"""ESM2 conditioned on a homolog: trained, sampled from, read."""

"""The network: ESM2 that reads a homolog, and its files."""

"""3D structures to one vector: parser, residue embeddings, aggregator, search."""

"""Self-constrained generative fine-tuning of any feature table.

A gene's vector goes through a narrow bottleneck, from which a decoder has to name the gene by its code; codes come
of the vectors themselves. The bottleneck is the fine-tuned vector.
"""

"""A config in, a run out: the fine-tuned table, or the masked-language-model baseline."""

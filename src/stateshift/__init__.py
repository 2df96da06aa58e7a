"""stateshift predicts how a population of cells shifts when a gene is perturbed."""

import os

# torch asks for memory in large pages where this is set before its import: at 18,080 genes a training step is
# 1.5 times as fast for it, most of an operation on a fresh array being the kernel's handing out of small pages
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"

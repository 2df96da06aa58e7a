"""What each source of features is worth: left out, its genes shuffled, alone."""

from stateshift.evaluation.ablation.ablate import Ablation, ablate_features, ablation_table

__all__ = ["Ablation", "ablate_features", "ablation_table"]

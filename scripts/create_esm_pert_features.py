"""Make the table of perturbation features; the same as the command ``create_esm_pert_features``."""

from stateshift.cli.features import run_create_esm_pert_features

if __name__ == "__main__":
    run_create_esm_pert_features()

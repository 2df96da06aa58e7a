"""A finished run: what it was fitted on, its codes, its network; new vectors through the bottleneck."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stateshift.bioemb.codes import Codes, Trie, build_trie
from stateshift.bioemb.model import BioEmb, Decoder, Shape
from stateshift.bioemb.settings import Settings, settings_of
from stateshift.errors import StateshiftError, first_line, some
from stateshift.feature_table import FeatureTable
from stateshift.files import intact, read_tensors, refuse_broken, sha256, written_beside, yaml_text

FILES = ("config.yaml", "input.pt", "codes.npz", "model.pt", "features.pt")
BATCH = 1024


@dataclass(frozen=True, eq=False)
class TrainedBioEmb:
    """A run's folder, read.

    Parameters
    ----------
    folder
        It.
    settings
        With which it was trained.
    table
        The input: every gene, those held out too.
    codes
        Of the fitted genes.
    model
        In evaluation mode.
    """

    folder: Path
    settings: Settings
    table: FeatureTable
    codes: Codes
    model: BioEmb

    @property
    def trie(self) -> Trie:
        """Of the codes."""
        return build_trie(self.codes.codes, self.codes.tokens)

    @property
    def decoder(self) -> Decoder:
        """Names entities; their places are those of ``codes.names``."""
        return Decoder(self.model, self.trie)

    @property
    def fitted(self) -> list[str]:
        """The genes that codes and training saw."""
        return self.codes.genes

    def embed(self, vectors: np.ndarray) -> np.ndarray:
        """Fine-tuned vectors (N, b) float32 of vectors (N, F), fitted on or new."""
        if vectors.shape[1:] != (self.model.shape.width,):
            raise StateshiftError(
                f"{self.folder} takes vectors of {self.model.shape.width} values, not {vectors.shape[-1]}."
            )
        return embedded(self.model, vectors)

    def fine_tuned(self, table: FeatureTable | None = None) -> FeatureTable:
        """A table through the bottleneck, by default the run's own input; its provenance says what was fitted."""
        table = table or self.table
        return FeatureTable(table.genes, self.embed(table.vectors), self.provenance(table))

    def provenance(self, table: FeatureTable) -> dict[str, Any]:
        """What to keep with fine-tuned vectors."""
        fitted = set(self.fitted)
        unseen = [gene for gene in table.genes if gene not in fitted]
        told = {
            "source": "bioemb",
            "run": self.folder.name,
            "model_sha256": sha256(self.folder / "model.pt"),
            "fit": "transductive" if self.settings.data.transductive else "training genes only",
            "fitted_genes": len(fitted),
            "not_fitted": unseen,
            "bottleneck": self.model.shape.bottleneck,
            "levels": self.codes.quantiser.levels,
            "missing": {},
            "input_provenance": table.provenance,
        }
        return told | ({"demo": True} if table.provenance.get("demo") else {})


def embedded(model: BioEmb, vectors: np.ndarray) -> np.ndarray:
    """Bottleneck vectors (N, b) float32, in batches on the model's device."""
    device = model.mean.device
    rows = torch.from_numpy(np.asarray(vectors, dtype=np.float32))
    with torch.no_grad():
        parts = [model.embed(part.to(device)).cpu() for part in rows.split(BATCH)]
    return torch.cat(parts).numpy()


def save_model(model: BioEmb, path: Path) -> None:
    """Write shape and weights."""
    with written_beside(path, overwrite=True) as part:
        torch.save({"shape": asdict(model.shape), "weights": model.state_dict()}, part)


def load_model(path: Path) -> BioEmb:
    """Read `save_model`'s file without executing pickled code, in evaluation mode."""
    try:
        content = read_tensors(path)
        model = BioEmb(Shape(**content["shape"]))
        model.load_state_dict(content["weights"])
        refuse_broken(content["weights"], path)
    except StateshiftError:
        raise
    except Exception as error:
        raise StateshiftError(f"{path} is damaged or no BioEmb model: {first_line(error)}") from error
    return model.eval()


def read_config(folder: Path) -> Settings:
    """The settings a run keeps."""
    from omegaconf import OmegaConf

    path = folder / "config.yaml"
    if not path.is_file():
        raise StateshiftError(f"{folder} is no run of `stateshift bioemb train`: it has no config.yaml.")
    with intact(path, "Copy the run anew, or train again."):
        return settings_of(OmegaConf.to_container(OmegaConf.create(yaml_text(path))), str(path))


def open_bioemb(folder: str | Path) -> TrainedBioEmb:
    """Read a finished run.

    Raises
    ------
    StateshiftError
        It is no run, or its training did not end; how to go on is told.
    """
    folder = Path(folder)
    settings = read_config(folder)
    lacking = [name for name in FILES if not (folder / name).is_file()]
    if lacking:
        raise StateshiftError(
            f"{folder} lacks {some(lacking)}: its training has not ended; go on with "
            f"`stateshift bioemb train --resume {folder}`."
        )
    table = FeatureTable.load(folder / "input.pt")
    return TrainedBioEmb(folder, settings, table, Codes.load(folder / "codes.npz"), load_model(folder / "model.pt"))


def write_config(settings: Settings, folder: Path) -> None:
    """Write ``config.yaml`` and the versions it was made with."""
    from omegaconf import OmegaConf

    from stateshift import __version__

    with written_beside(folder / "config.yaml") as part:
        part.write_text(OmegaConf.to_yaml(settings.as_dict()))
    with written_beside(folder / "versions.json") as part:
        part.write_text(json.dumps({"stateshift": __version__, "torch": torch.__version__}) + "\n")

"""Files made to run code, under everything that reads a file: refused in a sentence, and nothing of them is run."""

import pickle
import zipfile

import numpy as np
import pytest
import torch

from stateshift.bioemb.codes.table import Codes
from stateshift.bioemb.settings import read_settings as read_bioemb_settings
from stateshift.bioemb.trained import load_model, read_config
from stateshift.cells import EffectTable, read_experiment
from stateshift.effects.conformal.held_out import load_held_out
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.features.table_files import read_vectors
from stateshift.proteins.esm2.checkpoint import read_checkpoint
from stateshift.proteins.explore import read_embeddings
from stateshift.rag_esm.model.published import _read as read_rag_esm_weights
from stateshift.rag_esm.training.train import _last as last_of_rag_esm
from stateshift.rag_esm.training.train import _told as settings_of_rag_esm
from stateshift.run import RunDirectory
from stateshift.structure.aggregator import load_aggregator
from stateshift.structure.pipeline.tables import read_vectors as read_structure_vectors
from stateshift.structure.residues.tensors import read_residues
from stateshift.training.resume import progress_of
from stateshift.training.settings import TrainingSettings
from stateshift.transition.arc.files import read_pickled
from stateshift.transition.checkpoint import read_weights


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, sprung):
        self.sprung = sprung

    def __reduce__(self):
        return open, (str(self.sprung), "w")


@pytest.fixture
def sprung(tmp_path):
    """Where the trap leaves its trace."""
    return tmp_path / "sprung"


def in_run(name):
    """A reader of the run directory that holds the file as `name`."""

    def placed(path):
        target = path.parent / name
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        return RunDirectory(path.parent)

    return placed


PICKLES = {
    "features": FeatureTable.load,
    "residues": read_residues,
    "vectors of structures": read_structure_vectors,
    "an aggregator": load_aggregator,
    "ESM2": read_checkpoint,
    "embeddings": read_embeddings,
    "BioEmb": load_model,
    "RAG-ESM as published": read_rag_esm_weights,
    "RAG-ESM's last checkpoint": lambda path: last_of_rag_esm(in_run("last.pt")(path).path),
    "a run's weights": read_weights,
    "a run's last checkpoint": lambda path: progress_of(
        in_run("checkpoints/last.ckpt")(path), TrainingSettings(max_steps=8, lr=0.1, val_every=4)
    ),
    "arc-state": read_pickled,
}


@pytest.mark.parametrize("layout", ["zip", "legacy", "bare"])
@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_is_not_run(name, layout, sprung, tmp_path):
    path = tmp_path / "x.pt"
    if layout == "bare":
        path.write_bytes(pickle.dumps({"A": Trap(sprung)}))
    else:
        torch.save(
            {"A": torch.ones(2), "state_dict": Trap(sprung)}, path, _use_new_zipfile_serialization=layout == "zip"
        )
    with pytest.raises(StateshiftError):
        PICKLES[name](path)
    assert not sprung.exists()


@pytest.mark.parametrize("read", [read_pickled, read_embeddings])
def test_a_file_that_is_a_pickle_by_name_is_not_run_either(read, sprung, tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"A": Trap(sprung)}))
    with pytest.raises(StateshiftError, match=r"open.*(refused|run)|refused.*open"):
        read(tmp_path / "x.pkl")
    assert not sprung.exists()


ARRAYS = {
    "vectors": read_vectors,
    "embeddings": read_embeddings,
    "effects": EffectTable.load,
    "held-out effects": load_held_out,
    "codes": Codes.load,
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_objects_are_not_unpickled(name, sprung, tmp_path):
    keys = {
        "x", "names", "genes", "perturbations", "contexts", "true", "predicted", "codes", "entities", "tokens", "scale",
        "simulated", "control_contexts", "control_means", "effects",
    }  # fmt: skip
    np.savez(tmp_path / "x.npz", **{key: np.array([Trap(sprung)], dtype=object) for key in keys})
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert b"Trap" in archive.read("x.npy") or b"open" in archive.read("x.npy")
    with pytest.raises(StateshiftError):
        ARRAYS[name](tmp_path / "x.npz")
    assert not sprung.exists()


SETTINGS = {
    "a run": lambda folder: RunDirectory(folder).config(),
    "BioEmb's run": read_config,
    "BioEmb's config": lambda folder: read_bioemb_settings(folder / "config.yaml"),
    "RAG-ESM's run": lambda folder: settings_of_rag_esm(folder),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_yaml_makes_no_objects(name, sprung, tmp_path):
    text = f"model: !!python/object/apply:builtins.open ['{sprung}', 'w']\n"
    for file in ("config.yaml", "settings.yaml"):
        (tmp_path / file).write_text(text)
    with pytest.raises(StateshiftError):
        SETTINGS[name](tmp_path)
    assert not sprung.exists()


@pytest.mark.parametrize(
    "word", ["hydra.launcher._target_=os.abort", "+hydra.callbacks.x._target_=os.abort", "name=${oc.env:HOME}"]
)
def test_an_experiment_sets_nothing_of_hydra_s_and_reads_no_environment(lasting_screen, tmp_path, word):
    toml = tmp_path / "x.toml"
    toml.write_text(lasting_screen.toml.read_text() + f'[run]\noverrides = ["{word}"]\n')
    with pytest.raises(StateshiftError, match=r"Hydra's own settings and \$\{…\} go on the command line"):
        read_experiment(toml)


def test_an_index_names_no_file_outside_its_folder(tmp_path):
    import json

    pytest.importorskip("faiss", reason="the index needs the extra `structure`")
    from stateshift.vector_index import VectorIndex

    index = VectorIndex(4)
    index.add({"A": np.ones(4, dtype=np.float32)})
    index.save(tmp_path / "index")
    about = tmp_path / "index" / "about.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"generation": "/../../x"}))
    with pytest.raises(StateshiftError, match=r"index is a damaged index \(invalid literal for int"):
        VectorIndex.load(tmp_path / "index")

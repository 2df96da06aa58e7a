"""RAG-ESM models on disk: a folder of safetensors and JSON; and the published layout, read."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stateshift.errors import StateshiftError, first_line, some
from stateshift.files import intact, read_json, refuse_broken, sha256, written_beside
from stateshift.proteins.esm2.network import ESM2, Shape, frequencies
from stateshift.rag_esm.model.network import RagESM

if TYPE_CHECKING:
    from stateshift.proteins import ProteinModel

logger = logging.getLogger(__name__)

FORMAT = "stateshift rag-esm 1"
WEIGHTS, CONFIG = "model.safetensors", "config.json"


@dataclass
class TrainedRagESM:
    """A model and where it comes from.

    Parameters
    ----------
    network
        In evaluation mode.
    name
        Of its folder, or of the run's whose best it is.
    base
        The ESM2 model that it was made of: ``model``, ``model_sha256``; empty where its file doesn't tell.
    training
        How it was trained.
    sha256
        Of its weights.
    """

    network: RagESM
    name: str = ""
    base: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""

    @property
    def esm(self) -> ProteinModel:
        """The decoder without what it reads: plain ESM2, as `stateshift.proteins.load_esm2` gives one."""
        from esm.data import Alphabet

        from stateshift.proteins import ProteinModel

        network, alphabet = self.network.esm, Alphabet.from_architecture("ESM-1b")
        shape, name = network.shape, f"the ESM2 of {self.name}"
        return ProteinModel(network, alphabet, name, shape.layers, shape.width, self.sha256, "stateshift", "fp32")


def new_rag_esm(base: str | Path | None = None, layers: str = "alternate-2", seed: int = 0) -> TrainedRagESM:
    """An untrained model on an ESM2 checkpoint: its context changes nothing yet.

    Parameters
    ----------
    base
        As `stateshift.proteins.load_esm2` takes it; None is the embedded demo model.
    layers
        See `cross_layers`.
    seed
        Draws the first weights of the cross blocks.
    """
    from stateshift.proteins import load_esm2
    from stateshift.rag_esm.model.layers import cross_layers

    esm = load_esm2(base, precision="fp32", device="cpu")
    lacking = {name for name in esm.network.lacks if name.startswith("head_")}
    if lacking:
        raise StateshiftError(f"{base} lacks the language-model head, which RAG-ESM predicts with.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RagESM(esm.network, cross_layers(layers, esm.layers))
    return TrainedRagESM(
        network, f"{esm.name} with cross layers {layers}", {"model": esm.name, "model_sha256": esm.sha256}
    )


def save_rag_esm(trained: TrainedRagESM, folder: str | Path) -> Path:
    """Write ``model.safetensors`` and ``config.json`` into a new folder."""
    from safetensors.torch import save_file

    network = trained.network
    told = {
        "format": FORMAT,
        "shape": asdict(network.esm.shape),
        "cross_layers": list(network.layers),
        "own_encoder": network.encoder is not None,
        "base": trained.base,
        "training": trained.training,
    }
    with written_beside(folder) as part:
        part.mkdir()
        save_file({n: w.detach().cpu().clone() for n, w in network.state_dict().items()}, part / WEIGHTS)
        told["weights_sha256"] = sha256(part / WEIGHTS)  # safetensors hold no checksum of their values
        (part / CONFIG).write_text(json.dumps(told, indent=2) + "\n")
    return Path(folder)


def load_rag_esm(checkpoint: str | Path, device: str | None = None) -> TrainedRagESM:
    """Read a model without running pickled code: ours, a run of ours, or one in the published layout.

    Parameters
    ----------
    checkpoint
        A folder with ``model.safetensors`` and ``config.json``, a run's folder (its ``best`` is taken), or a file or
        folder with ``pytorch_model.bin`` or ``model.safetensors`` in the published names.
    device
        As torch names it; by default the GPU where there is one.

    Raises
    ------
    StateshiftError
        It is missing, damaged, or its weights don't fit each other.
    """
    path = Path(checkpoint)
    path = path / "best" if (path / "best" / CONFIG).is_file() else path
    if not path.exists():
        raise StateshiftError(f"{path}: there is no such RAG-ESM checkpoint.")
    told = _config(path if path.is_dir() else path.parent)
    if told.get("format") == FORMAT:
        trained = _ours(path if path.is_dir() else path.parent, told)
    else:
        from stateshift.rag_esm.model.published import read_published

        with intact(path, "Fetch it again."):
            network, file = read_published(path, told)
        trained = TrainedRagESM(network, file.parent.name, sha256=sha256(file))
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    trained.network.eval().requires_grad_(False).to(place)
    logger.info(
        "%s: %d layers, cross-attention after %s.",
        trained.name,
        trained.network.esm.shape.layers,
        some(trained.network.layers, 50),
    )
    return trained


def empty_network(shape: Shape, layers: tuple[int, ...], own_encoder: bool) -> RagESM:
    """A network whose weights take no memory yet."""
    with torch.device("meta"):
        return RagESM(ESM2(shape), layers, ESM2(shape) if own_encoder else None)


def filled(network: RagESM, state: dict[str, torch.Tensor], where: Path) -> RagESM:
    """The network with the weights, once every name and dimension is what its shape says."""
    expected = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    wrong = [f"lacks {some(sorted(set(expected) - set(state)), 3)}"] if set(expected) - set(state) else []
    wrong += [f"also holds {some(sorted(set(state) - set(expected)), 3)}"] if set(state) - set(expected) else []
    wrong += [
        f"has {name} of {tuple(state[name].shape)} where an ESM2 {network.esm.shape.width} wide has {size}"
        for name, size in expected.items()
        if name in state and tuple(state[name].shape) != size
    ][:3]
    if wrong:
        raise StateshiftError(f"{where} is no whole RAG-ESM checkpoint: it {' and '.join(wrong)}.")
    refuse_broken(state, where)
    network.load_state_dict({name: weight.float() for name, weight in state.items()}, assign=True)
    return network


def head_frequencies(shape: Shape) -> torch.Tensor:
    """The rotary angles that checkpoints may leave out."""
    return frequencies(shape.width // shape.heads)


def _ours(folder: Path, told: dict[str, Any]) -> TrainedRagESM:
    from safetensors.torch import load_file

    path, digest = folder / WEIGHTS, sha256(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else ""
    if told.get("weights_sha256", digest) != digest:
        raise StateshiftError(f"{path} is missing, or not what was written: copy the checkpoint anew.")
    try:
        shape, base, training = Shape(**told["shape"]), dict(told["base"]), dict(told["training"])
        state = load_file(path)
        if shape.layers > len(state):  # each has weights; more would be made for ever
            raise ValueError(f"{CONFIG} says {shape.layers} layers, of which {WEIGHTS} has not the weights")
        network = empty_network(shape, tuple(told["cross_layers"]), bool(told["own_encoder"]))
    except Exception as error:
        raise StateshiftError(f"{folder} is a damaged RAG-ESM checkpoint: {first_line(error)}.") from error
    filled(network, state, path)
    place = folder.resolve()
    name = place.parent.name if place.name == "best" else place.name
    return TrainedRagESM(network, name, base, training, digest)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        return {}
    return read_json(path, "Copy the checkpoint anew.")

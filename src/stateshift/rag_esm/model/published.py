"""RAG-ESM checkpoints in the published layout: Hugging Face's names of ESM, twice, and those of cross-attention."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch

from stateshift.errors import StateshiftError, first_line, some
from stateshift.files import read_tensors
from stateshift.proteins.esm2.checkpoint import HUGGING_FACE
from stateshift.proteins.esm2.network import ESM2, Shape, paired
from stateshift.rag_esm.model.checkpoint import empty_network, filled, head_frequencies
from stateshift.rag_esm.model.network import RagESM

FILES = ("model.safetensors", "pytorch_model.bin")
HEADS = {320: 20, 480: 20, 640: 20, 1280: 20, 2560: 40, 5120: 40}
"""Heads by the width of the published ESM2 models."""
CROSS = {
    "crossattention.self.query": "query",
    "crossattention.self.key": "key",
    "crossattention.self.value": "value",
    "crossattention.output.dense": "out",
    "crossattention.LayerNorm": "norm",
    "crossattention.weight_cross_attention": "gate",
    "weight_crossattention_ffw": "mlp_gate",
    "intermediate_crossattention.dense": "up",
    "output_crossattention.dense": "down",
    "LayerNorm_crossattention": "mlp_norm",
}
LAYER = r"decoder\.esm\.encoder\.layer\.(\d+)\."


def read_published(path: Path, config: dict[str, Any]) -> tuple[RagESM, Path]:
    """The network of a published checkpoint, and its weights' file.

    Parameters
    ----------
    path
        The file or its folder.
    config
        The ``config.json`` beside it where there is one: it may tell the number of heads. Which layers read the
        context is told by the names of the weights alone.

    Raises
    ------
    StateshiftError
        It is none, can't be read safely, or lacks weights.
    """
    file = path if path.is_file() else next((path / name for name in FILES if (path / name).is_file()), None)
    if file is None:
        raise StateshiftError(f"{path} holds no RAG-ESM checkpoint: none of {', '.join(FILES)} is in it.")
    weights = _read(file)
    if any(name.startswith("esm.blocks.") for name in weights):
        raise StateshiftError(f"{file} is a model of stateshift whose config.json is missing: put it beside it.")
    if not any(name.startswith("decoder.esm.") for name in weights):
        raise StateshiftError(
            f"{file} is no RAG-ESM checkpoint: no name begins with decoder.esm., but {some(weights, 2)}."
        )
    layers = tuple(sorted({int(m[1]) for name in weights if (m := re.match(LAYER + "crossattention", name))}))
    decoder = _esm(weights, ("decoder.esm.", "decoder."), file)
    encoder = _esm(weights, ("encoder.",), file)
    shape = _shape(decoder, config, file)
    state = {f"esm.{name}": weight for name, weight in _ready(decoder, shape, file).items()}
    # the encoder runs up to the last cross layer and has no head; what it lacks is never used
    theirs = _ready(encoder, shape, file)
    own = any(
        not torch.equal(weight, state[f"esm.{name}"])
        for name, weight in theirs.items()
        if name in _used(theirs, layers)
    )
    if own:
        state |= {f"encoder.{n}": theirs.get(n, w) for n, w in _ready(decoder, shape, file).items()}
    return filled(empty_network(shape, layers, own), state | _cross(weights), file), file


def _read(file: Path) -> dict[str, torch.Tensor]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        content = read_tensors(file)
    except pickle.UnpicklingError as error:
        raise StateshiftError(
            f"{file} is no RAG-ESM checkpoint that can be read safely: it is damaged, or holds more than weights."
        ) from error
    except Exception as error:
        raise StateshiftError(
            f"{file} is no RAG-ESM checkpoint that can be read safely: {first_line(error)}"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(w, torch.Tensor) for w in content.values()):
        raise StateshiftError(f"{file} is no RAG-ESM checkpoint: it holds no weights by name.")
    return content


def _esm(weights: dict[str, torch.Tensor], prefixes: tuple[str, ...], file: Path) -> dict[str, torch.Tensor]:
    """The part that is ESM2, in our names; the first prefix that fits a name is cut off."""
    ours, foreign = {}, []
    for name, weight in weights.items():
        prefix = next((p for p in prefixes if name.startswith(p)), None)
        if prefix is None or (re.match(LAYER, name) and "crossattention" in name):
            continue
        rest = re.sub(r"^esm\.", "", name.removeprefix(prefix))
        found = next((item for item in HUGGING_FACE.items() if re.fullmatch(item[0], rest)), None)
        if found is None:
            foreign.append(name)
        elif found[1]:
            ours[re.sub(found[0], found[1], rest)] = weight
    if foreign:
        raise StateshiftError(f"{file} is no RAG-ESM checkpoint: it also holds {some(sorted(foreign), 3)}.")
    return ours


def _shape(decoder: dict[str, torch.Tensor], config: dict[str, Any], file: Path) -> Shape:
    if "embedding" not in decoder:
        raise StateshiftError(f"{file} is no whole RAG-ESM checkpoint: it lacks the decoder's word embeddings.")
    width = decoder["embedding"].shape[1]
    numbers = [int(m[1]) for name in decoder if (m := re.match(r"blocks\.(\d+)\.", name))]
    told = config.get("decoder", config)
    heads = told.get("num_attention_heads") or HEADS.get(width)
    if "frequencies" in decoder:
        heads = width // (2 * len(decoder["frequencies"]))
    if not heads or width % (2 * int(heads)):
        raise StateshiftError(
            f"{file}: an ESM2 {width} wide has an unknown number of heads; put its config.json beside it."
        )
    return Shape(max(numbers, default=-1) + 1, width, int(heads), epsilon=float(told.get("layer_norm_eps") or 1e-5))


def _ready(weights: dict[str, torch.Tensor], shape: Shape, file: Path) -> dict[str, torch.Tensor]:
    """As the network has them: queries, keys and values one matrix, the contact regression flat."""
    with torch.device("meta"):
        optional = {
            n: torch.zeros(w.shape, device="cpu") for n, w in ESM2(shape).state_dict().items() if "contact" in n
        }
    state = optional | {"frequencies": head_frequencies(shape)}
    for name, weight in weights.items():
        fused = re.fullmatch(r"(blocks\.\d+)\.q\.(weight|bias)", name)
        if fused:
            parts = [weights.get(f"{fused[1]}.{letter}.{fused[2]}") for letter in "qkv"]
            if any(part is None for part in parts):
                raise StateshiftError(f"{file} is no whole RAG-ESM checkpoint: it lacks queries, keys or values.")
            state[f"{fused[1]}.qkv.{fused[2]}"] = paired(torch.cat(parts), shape.heads)
        elif not re.fullmatch(r"blocks\.\d+\.[kv]\.(weight|bias)", name):
            state[name] = weight.reshape(state[name].shape) if name.startswith("contact_") else weight
    return state


def _used(state: dict[str, torch.Tensor], layers: tuple[int, ...]) -> set[str]:
    """Names of the encoder's weights that what it hands over depends on."""
    last = max(layers, default=0)
    return {n for n in state if n == "embedding" or ((m := re.match(r"blocks\.(\d+)\.", n)) and int(m[1]) < last)}


def _cross(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {}
    for name, weight in weights.items():
        layer = re.match(LAYER, name)
        rest = name[layer.end() :] if layer else ""
        theirs = next((part for part in CROSS if rest == part or rest.startswith(part + ".")), None)
        if theirs:
            ours = f"cross.{layer[1]}.{CROSS[theirs]}{rest[len(theirs) :]}"
            found[ours] = weight.reshape(()) if ours.endswith("gate") else weight
    return found

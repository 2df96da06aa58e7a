"""ESM2 checkpoints in the layouts of fair-esm and Hugging Face, read without running pickled code."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stateshift.errors import StateshiftError, some
from stateshift.files import read_json, refuse_altered

if TYPE_CHECKING:
    import torch

    from stateshift.proteins.esm2.network import Shape

HUGGING_FACE_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# foreign name → ours, tried in this order; the blocks' names are preceded by their number
FAIR_ESM = {
    r"embed_tokens\.weight": "embedding",
    r"layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)": r"blocks.\1.\2.\3",
    r"layers\.(\d+)\.self_attn\.out_proj\.(weight|bias)": r"blocks.\1.out.\2",
    r"layers\.(\d+)\.self_attn_layer_norm\.(weight|bias)": r"blocks.\1.attention_norm.\2",
    r"layers\.(\d+)\.final_layer_norm\.(weight|bias)": r"blocks.\1.mlp_norm.\2",
    r"layers\.(\d+)\.fc1\.(weight|bias)": r"blocks.\1.up.\2",
    r"layers\.(\d+)\.fc2\.(weight|bias)": r"blocks.\1.down.\2",
    r"layers\.0\.self_attn\.rot_emb\.inv_freq": "frequencies",
    r"layers\.\d+\.self_attn\.rot_emb\.inv_freq": "",
    r"emb_layer_norm_after\.(weight|bias)": r"norm.\1",
    r"lm_head\.dense\.(weight|bias)": r"head_dense.\1",
    r"lm_head\.layer_norm\.(weight|bias)": r"head_norm.\1",
    r"lm_head\.weight": "",
    r"lm_head\.bias": "head_bias",
    r"contact_head\.regression\.(weight|bias)": r"contact_\1",
}
HUGGING_FACE = {
    r"embeddings\.word_embeddings\.weight": "embedding",
    r"embeddings\.position_(ids|embeddings\.weight)": "",
    r"encoder\.layer\.(\d+)\.attention\.self\.([qkv])(?:uery|ey|alue)\.(weight|bias)": r"blocks.\1.\2.\3",
    r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(weight|bias)": r"blocks.\1.out.\2",
    r"encoder\.layer\.(\d+)\.attention\.LayerNorm\.(weight|bias)": r"blocks.\1.attention_norm.\2",
    r"encoder\.layer\.(\d+)\.LayerNorm\.(weight|bias)": r"blocks.\1.mlp_norm.\2",
    r"encoder\.layer\.(\d+)\.intermediate\.dense\.(weight|bias)": r"blocks.\1.up.\2",
    r"encoder\.layer\.(\d+)\.output\.dense\.(weight|bias)": r"blocks.\1.down.\2",
    r"encoder\.layer\.[0*]\.attention\.self\.rotary_embeddings\.inv_freq": "frequencies",
    r"encoder\.layer\.\d+\.attention\.self\.rotary_embeddings\.inv_freq": "",
    r"rotary_embeddings\.inv_freq": "frequencies",
    r"encoder\.emb_layer_norm_after\.(weight|bias)": r"norm.\1",
    r"lm_head\.dense\.(weight|bias)": r"head_dense.\1",
    r"lm_head\.layer_norm\.(weight|bias)": r"head_norm.\1",
    r"lm_head\.decoder\.(weight|bias)": "",
    r"lm_head\.bias": "head_bias",
    r"contact_head\.regression\.(weight|bias)": r"contact_\1",
    r"pooler\.dense\.(weight|bias)": "",
}
REGRESSION = "-contact-regression.pt"
"""How fair-esm's file of the contact regression ends, after its model's name."""
OPTIONAL = ("contact_weight", "contact_bias", "frequencies")


def files_of(path: Path) -> list[Path]:
    """All files that a checkpoint consists of: itself, or a Hugging Face folder's weights, shards and config."""
    if path.is_file() and not path.name.endswith(".index.json"):
        beside = [path.with_name(f"{path.stem}{REGRESSION}"), path.with_name("config.json")]
        return [path, *(file for file in beside if file.is_file())]
    folder = path if path.is_dir() else path.parent
    named = [folder / name for name in HUGGING_FACE_FILES] if path.is_dir() else [path]
    first = next((file for file in named if file.is_file()), None)
    if first is None:
        raise StateshiftError(f"{path} holds no checkpoint: none of {', '.join(HUGGING_FACE_FILES)} is in it.")
    shards = []
    if first.name.endswith(".index.json"):
        shards = _shards(first)
        lacking = [shard.name for shard in shards if not shard.is_file()]
        if lacking or not shards:
            raise StateshiftError(f"{first} names weights that aren't beside it: {some(lacking)}.")
    return [*(shards or [first]), folder / "config.json"]


def _shards(index: Path) -> list[Path]:
    """The files that an index names, which lie beside it and nowhere else."""
    named = read_json(index, "Fetch it again.").get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(n, str) and n == Path(n).name for n in named.values()):
        raise StateshiftError(f"{index} is damaged: its weight_map has to name files of its folder. Fetch it again.")
    return [index.parent / name for name in sorted(set(named.values()))]


def holds_weights(file: Path) -> bool:
    """Whether a file of a checkpoint is weights of the network: no configuration, no contact regression."""
    return file.name != "config.json" and not file.name.endswith(REGRESSION)


def read_checkpoint(path: Path) -> tuple[Shape, dict[str, torch.Tensor]]:
    """Shape and weights of a checkpoint, in our names, every one of them accounted for.

    Parameters
    ----------
    path
        A file in fair-esm's layout; or weights in Hugging Face's with ``config.json`` beside them; or the folder of
        these, shards with an index included. What a file is shows from its content, not from its name.

    Returns
    -------
    tuple
        The shape, and `ESM2`'s state without what is optional and absent: the head of an ``EsmModel``, the contact
        regression.

    Raises
    ------
    StateshiftError
        A file can't be read safely, is no ESM2 checkpoint, or lacks weights.
    """
    files = files_of(path)
    content = _read(files[0])
    if "cfg" in content or "args" in content or isinstance(content.get("model"), Mapping):
        regression = next((file for file in files[1:] if file.name.endswith(REGRESSION)), None)
        if regression is not None and isinstance(content.get("model"), dict):
            content["model"] = content["model"] | _read(regression).get("model", {})
        return from_fair_esm(content, path)
    for shard in filter(holds_weights, files[1:]):
        content |= _read(shard)
    shape = hugging_face_shape(files[-1], path)
    # files of transformers 5 keep the names of an older norm
    weights = {
        re.sub(r"^esm\.", "", name).replace(".gamma", ".weight").replace(".beta", ".bias"): weight
        for name, weight in content.items()
    }
    return shape, _checked(_fused(_renamed(weights, HUGGING_FACE, path), path), shape, path)


def from_fair_esm(content: Mapping[str, Any], path: Path) -> tuple[Shape, dict[str, torch.Tensor]]:
    """`read_checkpoint` of the content of a file in fair-esm's layout."""
    shape, weights = _fair_esm(content, path)
    return shape, _checked(_fused(_renamed(weights, FAIR_ESM, path), path), shape, path)


def is_safetensors(path: Path) -> bool:
    """Whether a file starts as safetensors does: eight bytes of a size, then JSON."""
    with path.open("rb") as handle:
        return handle.read(9)[8:] == b"{"


def _read(path: Path) -> dict[str, Any]:
    """A file's content: safetensors, or by torch's weights-only loader, which lets a Namespace through and no more."""
    import argparse

    import torch

    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such checkpoint file.")
    try:
        if is_safetensors(path):
            from safetensors.torch import load_file

            return load_file(path)
        refuse_altered(path)
        # torch takes every path that ends so for safetensors, and maps the memory of paths alone
        mapped = zipfile.is_zipfile(path) and path.suffix != ".safetensors"
        allowed = torch.serialization.safe_globals([argparse.Namespace])
        with allowed, path.open("rb") as handle, warnings.catch_warnings(action="ignore"):
            content = torch.load(path if mapped else handle, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        reason = "it is damaged, or holds more than tensors and plain values, of which nothing was run"
        raise StateshiftError(f"{path} is not an ESM2 checkpoint that can be read safely: {reason}.") from error
    if not isinstance(content, dict):
        raise StateshiftError(f"{path} is no ESM2 checkpoint: it holds a {type(content).__name__}, no weights by name.")
    return content


def _fair_esm(content: Mapping[str, Any], path: Path) -> tuple[Shape, dict[str, torch.Tensor]]:
    from stateshift.proteins.esm2.network import Shape

    if "args" in content:
        arch = getattr(content["args"], "arch", "unknown")
        raise StateshiftError(f"{path} is an ESM-1 checkpoint (architecture `{arch}`): an ESM2 model is needed.")
    if not {"cfg", "model"} <= set(content):
        raise StateshiftError(f"{path} is not in fair-esm's ESM2 layout: it needs the keys `cfg` and `model`.")
    try:
        told = content["cfg"]["model"]
        shape = Shape(
            int(told.encoder_layers),
            int(told.encoder_embed_dim),
            int(told.encoder_attention_heads),
            bool(told.token_dropout),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise StateshiftError(f"{path} is not a whole ESM2 checkpoint: its `cfg` doesn't tell {reason}.") from error
    return shape, {re.sub(r"^encoder\.(sentence_encoder\.)?", "", name): w for name, w in content["model"].items()}


def hugging_face_shape(config: Path, path: Path) -> Shape:
    """The shape of the model at `path` that Hugging Face's ``config.json`` tells; a StateshiftError where it is no ESM2 model."""
    from stateshift.proteins.esm2.network import Shape

    if config.name != "config.json" or not config.is_file():
        raise StateshiftError(
            f"{path} is neither in fair-esm's ESM2 layout (keys `cfg` and `model`) nor has it Hugging Face's config.json "
            "beside it."
        )
    told = read_json(config, "Fetch it again.")
    due = {
        "model_type": "esm",
        "position_embedding_type": "rotary",
        "emb_layer_norm_before": False,
        "is_folding_model": False,
        "rope_theta": 10000.0,
    }
    wrong = [f"{key} = {told[key]!r}" for key, value in due.items() if (told.get(key) or value) != value]
    if wrong or told.get("position_embedding_type") is None:
        said = ", ".join(wrong) or "no position_embedding_type"
        raise StateshiftError(f"{path} is no ESM2 model: {config.name} says {said}.")
    try:
        return Shape(
            int(told["num_hidden_layers"]),
            int(told["hidden_size"]),
            int(told["num_attention_heads"]),
            bool(told.get("token_dropout", False)),
            float(told.get("layer_norm_eps", 1e-5)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StateshiftError(f"{config} doesn't tell {error}.") from error


def _renamed(weights: dict[str, torch.Tensor], names: dict[str, str], path: Path) -> dict[str, torch.Tensor]:
    """Weights in our names; one that ESM2 doesn't have belongs to another model."""
    ours: dict[str, torch.Tensor] = {}
    foreign = []
    for name, weight in weights.items():
        found = next(((pattern, to) for pattern, to in names.items() if re.fullmatch(pattern, name)), None)
        if found is None:
            foreign.append(name)
        elif found[1]:
            ours[re.sub(found[0], found[1], name)] = weight
    if foreign:
        raise StateshiftError(f"{path} is no ESM2 checkpoint: it also holds {some(sorted(foreign), 3)}.")
    return ours


def _fused(weights: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Queries, keys and values of a block as one matrix."""
    import torch

    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name in [name for name in weights if re.fullmatch(r"blocks\.\d+\.[qkv]\.(weight|bias)", name)]:
        block, letter, kind = re.fullmatch(r"(blocks\.\d+)\.([qkv])\.(weight|bias)", name).groups()
        parts.setdefault(f"{block}.qkv.{kind}", {})[letter] = weights.pop(name)
    for name, part in parts.items():
        lacking = set("qkv") - set(part)
        if lacking:
            raise StateshiftError(f"{path} is not a whole ESM2 checkpoint: it lacks {some(sorted(lacking))} of {name}.")
        if len({weight.shape for weight in part.values()}) > 1:
            raise StateshiftError(f"{path} is not a whole ESM2 checkpoint: q, k and v of {name} differ in shape.")
        weights[name] = torch.cat([part[letter] for letter in "qkv"])
    for name in ("contact_weight", "contact_bias"):
        if name in weights:
            weights[name] = weights[name].flatten() if name == "contact_weight" else weights[name].reshape(())
    return weights


def _checked(weights: dict[str, torch.Tensor], shape: Shape, path: Path) -> dict[str, torch.Tensor]:
    """The weights, once every name and dimension is what the shape says."""
    import torch

    from stateshift.proteins.esm2.network import ESM2

    whole = f"{path} is not a whole ESM2 checkpoint:"
    if shape.layers > len(weights):
        raise StateshiftError(f"{whole} of {shape.layers} layers it holds {len(weights)} weights.")
    if min(shape.layers, shape.width, shape.heads) < 1 or shape.width % (2 * shape.heads):
        raise StateshiftError(
            f"{whole} {shape.width} wide it can't have {shape.heads} heads and {shape.layers} layers."
        )
    letters = tuple(weights["embedding"].shape) if "embedding" in weights else (shape.width,)
    if letters[-1:] != (shape.width,):  # no size that torch can't count
        raise StateshiftError(f"{whole} its embedding is {letters} where {(*letters[:-1], shape.width)} is due.")
    with torch.device("meta"):
        expected = {name: tuple(weight.shape) for name, weight in ESM2(shape).state_dict().items()}
    has_head = any(name.startswith("head_") for name in weights)
    needed = {n for n in expected if n not in OPTIONAL and (has_head or not n.startswith("head_"))}
    wrong = [f"it lacks {some(sorted(needed - set(weights)), 3)}"] if needed - set(weights) else []
    spare = sorted(set(weights) - set(expected))
    wrong += [f"it also holds {some(spare, 3)}"] if spare else []
    wrong += [
        f"its {name} is {tuple(weights[name].shape)} where {size} is due"
        for name, size in expected.items()
        if name in weights and tuple(weights[name].shape) != size
    ][:3]
    if wrong:
        raise StateshiftError(f"{whole} {' and '.join(wrong)}.")
    return weights

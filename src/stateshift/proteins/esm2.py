"""ESM2 checkpoints: loaded from a file, from fair-esm's hub, or from the package (the demo model)."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stateshift.errors import StateshiftError, some
from stateshift.files import sha256

if TYPE_CHECKING:
    import torch
    from esm import Alphabet

logger = logging.getLogger(__name__)

DEMO = "stateshift-demo-esm2"
DEMO_FILE = Path(__file__).resolve().parents[1] / "data" / "demo_esm.pt"
PUBLISHED = (
    "esm2_t6_8M_UR50D",
    "esm2_t12_35M_UR50D",
    "esm2_t30_150M_UR50D",
    "esm2_t33_650M_UR50D",
    "esm2_t36_3B_UR50D",
    "esm2_t48_15B_UR50D",
)
HUB = "https://dl.fbaipublicfiles.com/fair-esm/models"


@dataclass(frozen=True)
class ProteinModel:
    """An ESM2 model ready to embed.

    Parameters
    ----------
    model
        fair-esm's ``ESM2``, in evaluation mode.
    alphabet
        Its alphabet.
    name
        The published name, the file's stem, or `DEMO`.
    layers, width
        Number of layers and D.
    sha256
        Of the checkpoint file.
    """

    model: torch.nn.Module
    alphabet: Alphabet
    name: str
    layers: int
    width: int
    sha256: str

    @property
    def is_demo(self) -> bool:
        """Whether this is the small model shipped for the demo, under whatever name it was loaded."""
        return self.sha256 == sha256(DEMO_FILE)


def load_esm2(checkpoint: str | Path | None = None) -> ProteinModel:
    """Load an ESM2 model without executing pickled code and without its contact regression.

    Parameters
    ----------
    checkpoint
        A file in fair-esm's layout under any name, one of the `PUBLISHED` names (downloaded once into
        torch's hub folder), or None for the demo model.

    Returns
    -------
    ProteinModel
        On the GPU where there is one.

    Raises
    ------
    StateshiftError
        The name is unknown, the download fails, or the file is no ESM2 checkpoint.
    """
    import torch

    name, path = _located(checkpoint)
    model = _built(_read(path), path)
    return ProteinModel(
        model=model.eval().to("cuda" if torch.cuda.is_available() else "cpu"),
        alphabet=model.alphabet,
        name=name,
        layers=model.num_layers,
        width=model.embed_dim,
        sha256=sha256(path),
    )


def _located(checkpoint: str | Path | None) -> tuple[str, Path]:
    """Name and file of what the user asked for."""
    if checkpoint is None or str(checkpoint) == DEMO:
        return DEMO, DEMO_FILE
    path = Path(checkpoint).expanduser()
    if path.is_file():
        return path.stem, path
    if str(checkpoint) in PUBLISHED:
        return str(checkpoint), _downloaded(str(checkpoint))
    if path.suffix or len(path.parts) > 1:
        raise StateshiftError(f"{checkpoint}: there is no such checkpoint file.")
    raise StateshiftError(
        f"`{checkpoint}` is neither a checkpoint file nor a published ESM2 model{_published_near(str(checkpoint))}"
    )


def _published_near(name: str) -> str:
    """The end of a sentence that names the published model meant, or all six.

    Examples
    --------
    >>> _published_near("esm2_650M")
    ': did you mean `esm2_t33_650M_UR50D`?'
    """
    size = re.search(r"(\d+)\s*([mb])(?![a-z])", name.casefold())
    if size:
        meant = [p for p in PUBLISHED if f"_{size[1]}{size[2]}_" in p.casefold()]
    else:
        layers = re.search(r"t(\d+)", name.casefold())
        meant = [p for p in PUBLISHED if layers and f"_t{layers[1]}_" in p]
    if meant:
        return f": did you mean `{meant[0]}`?"
    return f": there are {', '.join(PUBLISHED)}."


def _downloaded(name: str) -> Path:
    """The hub file of a published model, fetched where fair-esm itself would look for it."""
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{name}.pt"
    if not path.is_file():
        url = f"{HUB}/{name}.pt"
        logger.info("Fetching %s into %s.", url, path.parent)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:
            raise StateshiftError(
                f"{url} could not be fetched ({error}): fetch it elsewhere and pass the file as --checkpoint."
            ) from error
    return path


def _read(path: Path) -> dict[str, Any]:
    """The checkpoint's content, read by torch's weights-only loader; a Namespace is let through, nothing else."""
    import argparse

    import torch

    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise StateshiftError(
            f"{path} is not an ESM2 checkpoint that can be read safely: {str(error).splitlines()[0][:160]}"
        ) from error
    if isinstance(content, dict) and "args" in content:
        raise StateshiftError(f"{path} is an ESM-1 checkpoint: an ESM2 model is needed ({', '.join(PUBLISHED)}).")
    if not isinstance(content, dict) or not {"cfg", "model"} <= set(content):
        raise StateshiftError(f"{path} is not in fair-esm's ESM2 layout: it needs the keys `cfg` and `model`.")
    return content


def _built(content: dict[str, Any], path: Path) -> torch.nn.Module:
    """fair-esm's model with the checkpoint's weights, every one of them accounted for."""
    from esm.model.esm2 import ESM2

    try:
        described = content["cfg"]["model"]
        model = ESM2(
            num_layers=described.encoder_layers,
            embed_dim=described.encoder_embed_dim,
            attention_heads=described.encoder_attention_heads,
            token_dropout=described.token_dropout,
        )
        state = {re.sub(r"^encoder\.(sentence_encoder\.)?", "", k): v for k, v in content["model"].items()}
        expected = {k for k in model.state_dict() if not k.startswith("contact_head.")}
        found = {k for k in state if not k.startswith("contact_head.")}
        if expected != found:
            wrong = [f"lacks {some(sorted(expected - found), 3)}"] if expected - found else []
            wrong += [f"also holds {some(sorted(found - expected), 3)}"] if found - expected else []
            raise StateshiftError(f"{path} is not a whole ESM2 checkpoint: it {' and '.join(wrong)}.")
        model.load_state_dict({k: state[k] for k in expected}, strict=False)
    except (AttributeError, KeyError, TypeError, RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise StateshiftError(f"{path} is not a whole ESM2 checkpoint: {reason}") from error
    return model

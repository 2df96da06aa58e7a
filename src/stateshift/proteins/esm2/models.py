"""ESM2 models ready to run: from a file, by their published name, or from the package (the demo model)."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stateshift.errors import StateshiftError, some, suggestion
from stateshift.files import sha256

if TYPE_CHECKING:
    import torch
    from esm.data import Alphabet

    from stateshift.proteins.esm2.network import Output, Shape

logger = logging.getLogger(__name__)

DEMO, DEMO_LAYERS, DEMO_WIDTH = "stateshift-demo-esm2", 4, 128
DEMO_FILE = Path(__file__).resolve().parents[2] / "data" / "demo_esm.pt"
PUBLISHED = {
    "esm2_t6_8M_UR50D": (6, 320),
    "esm2_t12_35M_UR50D": (12, 480),
    "esm2_t30_150M_UR50D": (30, 640),
    "esm2_t33_650M_UR50D": (33, 1280),
    "esm2_t36_3B_UR50D": (36, 2560),
    "esm2_t48_15B_UR50D": (48, 5120),
}
"""Published model → its layers and its width D."""
ENGINES = ("stateshift", "fair-esm")
UNKNOWN = -1
"""In place of a token, where a letter has none."""


@dataclass(frozen=True)
class ProteinModel:
    """An ESM2 model ready to embed.

    Parameters
    ----------
    network
        `stateshift.proteins.esm2.network.ESM2`, or fair-esm's behind the same call, in evaluation mode.
    alphabet
        fair-esm's alphabet.
    name
        The published name, the file's stem, or `DEMO`.
    layers, width
        Number of layers and D.
    sha256
        Of the checkpoint file; of the digests of all its shards where there are several.
    engine, precision
        One of `ENGINES`; ``fp32`` or ``bf16``.
    """

    network: torch.nn.Module
    alphabet: Alphabet
    name: str
    layers: int
    width: int
    sha256: str
    engine: str
    precision: str

    @property
    def is_demo(self) -> bool:
        """Whether this is the small model shipped for the demo, under whatever name it was loaded."""
        return self.sha256 == sha256(DEMO_FILE)

    def tokens(self, sequences: Sequence[str]) -> torch.Tensor:
        """Tokens (B, T) as fair-esm's batch converter makes them: BOS, residues, EOS, padding.

        T is the longest plus 2.

        Raises
        ------
        StateshiftError
            A sequence holds what is no letter of the alphabet, as small letters aren't (`read_fasta` sees to them).
        """
        import torch

        T = max(map(len, sequences)) + 2
        tokens = np.full((len(sequences), T), self.alphabet.padding_idx)
        tokens[:, 0] = self.alphabet.cls_idx
        letters = np.full(256, UNKNOWN)
        for letter, index in self.alphabet.tok_to_idx.items():
            if len(letter) == 1:
                letters[ord(letter)] = index
        for row, sequence in zip(tokens, sequences):
            row[1 : len(sequence) + 1] = letters[np.frombuffer(sequence.encode("ascii", "replace"), dtype=np.uint8)]
            row[len(sequence) + 1] = self.alphabet.eos_idx
            if (row == UNKNOWN).any():
                strange = sorted(set(sequence) - set(self.alphabet.tok_to_idx))
                raise StateshiftError(
                    f"The sequence `{sequence[:20]}…` holds {some(map(repr, strange))}, no amino acid of ESM2's alphabet: write "
                    "capital letters, and X for what is not known."
                )
        return torch.from_numpy(tokens)

    def run(
        self, tokens: torch.Tensor, layers: Collection[int] = (), logits: bool = False, contacts: bool = False
    ) -> Output:
        """One forward pass without gradients on the model's device.

        Parameters
        ----------
        tokens
            (B, T).
        layers
            Layers whose rows (B, T, D) are wanted, 0 to `layers`; negative ones count from the end.
        logits
            Whether the language-model head's (B, T, 33) are wanted.
        contacts
            Whether contact probabilities (B, T − 2, T − 2) are wanted.

        Returns
        -------
        Output
            ``rows`` by the layer's number as asked for, ``logits``, ``contacts``.
        """
        import torch

        from stateshift.proteins.esm2.network import Output

        meant = {layer: checked_layer(layer, self.layers) for layer in layers}
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            said = self.network(tokens.to(device), set(meant.values()), logits, contacts)
        return Output({layer: said.rows[number] for layer, number in meant.items()}, said.logits, said.contacts)


def load_esm2(
    checkpoint: str | Path | None = None,
    *,
    engine: str = "stateshift",
    precision: str = "auto",
    device: str | None = None,
) -> ProteinModel:
    """Load an ESM2 model without executing pickled code.

    Parameters
    ----------
    checkpoint
        A file in fair-esm's layout; a Hugging Face folder, or its weights with ``config.json`` beside them, files under
        any name; one of the `PUBLISHED` names (fetched once through the catalogue); or None for the
        demo model.
    engine
        ``stateshift``, or ``fair-esm`` for that package's own forward pass (fp32 only).
    precision
        ``fp32``, ``bf16``, or ``auto`` (`choose_precision`).
    device
        As torch names it; by default the GPU where there is one.

    Raises
    ------
    StateshiftError
        The name is unknown, the download fails, or the file is no ESM2 checkpoint.
    """
    import torch
    from esm.data import Alphabet

    from stateshift.memory import keep_freed_memory
    from stateshift.proteins.esm2.checkpoint import files_of, holds_weights, read_checkpoint
    from stateshift.proteins.esm2.precision import attention_precision, choose_precision

    if engine not in ENGINES:
        raise StateshiftError(f"`{engine}` is no engine{suggestion(engine, ENGINES)}.")
    name, path = _located(checkpoint)
    shape, weights = read_checkpoint(path)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if place.type == "cpu":
        keep_freed_memory()
    if engine == "fair-esm":
        from stateshift.proteins.esm2.fair_esm import FairESM

        if precision == "bf16":
            raise StateshiftError("The engine fair-esm runs in fp32: leave out bf16, or choose the engine stateshift.")
        chosen, why = "fp32", "fair-esm's"
        network = FairESM(shape, weights)
    else:
        chosen, why = choose_precision(precision, place, shape.width)
        network = _network(shape, weights, chosen, attention_precision(chosen, place))
    logger.info("%s: %d layers, %d wide, %s (%s), on %s.", name, shape.layers, shape.width, chosen, why, place)
    esm = ProteinModel(
        network=network.eval().requires_grad_(False).to(place),
        alphabet=Alphabet.from_architecture("ESM-1b"),
        name=name,
        layers=shape.layers,
        width=shape.width,
        sha256=_sha256_of(list(filter(holds_weights, files_of(path)))),
        engine=engine,
        precision=chosen,
    )
    if esm.is_demo:
        logger.info(
            "This is the embedded demo model (%s, width %d): good for trying out, not for research; name a published "
            "model with --checkpoint.",
            DEMO,
            esm.width,
        )
    return esm


def checked_layer(layer: int, layers: int) -> int:
    """The layer meant, 0 to `layers`.

    Examples
    --------
    >>> checked_layer(-1, 33), checked_layer(0, 33)
    (33, 0)
    """
    if not -layers - 1 <= layer <= layers:
        raise StateshiftError(f"The model has layers 0 to {layers} (or −1 to {-layers - 1} from the end), not {layer}.")
    return layer % (layers + 1)


def check_layer(layer: int, checkpoint: str | Path | None = None) -> None:
    """Raise where a model has no such layer, as far as its name tells; files are known once they are read.

    Examples
    --------
    >>> check_layer(99, "esm2_t33_650M_UR50D")
    Traceback (most recent call last):
    stateshift.errors.StateshiftError: The model has layers 0 to 33 (or −1 to -34 from the end), not 99.
    """
    if checkpoint is None or str(checkpoint) == DEMO:
        checked_layer(layer, DEMO_LAYERS)
    elif str(checkpoint) in PUBLISHED:
        checked_layer(layer, PUBLISHED[str(checkpoint)][0])


def told_shape(checkpoint: str | Path | None = None) -> tuple[str, int, int] | None:
    """Name, layers and width D of a model, as its name or its ``config.json`` tells; None where only its weights do.

    Nothing is fetched, and no weights are read.

    Raises
    ------
    StateshiftError
        There is no such file, and no published model of that name.

    Examples
    --------
    >>> told_shape("esm2_t33_650M_UR50D")
    ('esm2_t33_650M_UR50D', 33, 1280)
    """
    from stateshift.proteins.esm2.checkpoint import hugging_face_shape, is_safetensors

    if checkpoint is None or str(checkpoint) == DEMO:
        return DEMO, DEMO_LAYERS, DEMO_WIDTH
    path = Path(checkpoint).expanduser()
    if not path.exists() and str(checkpoint) not in PUBLISHED:
        _located(checkpoint)
    name = path.resolve().name if path.is_dir() else path.stem if path.exists() else str(checkpoint)
    if name in PUBLISHED:
        return name, *PUBLISHED[name]
    if not path.is_dir() and not is_safetensors(path):
        return None
    shape = hugging_face_shape(path / "config.json" if path.is_dir() else path.with_name("config.json"), path)
    return name, shape.layers, shape.width


def _sha256_of(files: Sequence[Path]) -> str:
    digests = [sha256(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _located(checkpoint: str | Path | None) -> tuple[str, Path]:
    """Name and file or folder of what the user asked for."""
    if checkpoint is None or str(checkpoint) == DEMO:
        return DEMO, DEMO_FILE
    path = Path(checkpoint).expanduser()
    if path.exists():
        return (path.resolve().name if path.is_dir() else path.stem), path
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
    """The file of a published model: where fair-esm itself has put it, or through the catalogue."""
    import torch

    from stateshift.catalogue import get

    fair_esm = Path(torch.hub.get_dir()) / "checkpoints" / f"{name}.pt"
    return fair_esm if fair_esm.is_file() else get(name)[0]


def _network(shape: Shape, weights: dict[str, torch.Tensor], precision: str, attention: str) -> torch.nn.Module:
    """Our network with the weights; matrices of the blocks in the precision, all else in fp32."""
    import torch

    from stateshift.proteins.esm2.network import ESM2, frequencies, paired

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    with torch.device("meta"):
        expected = ESM2(shape).state_dict()
        network = ESM2(shape, lacks=set(expected) - set(weights), attention=dtypes[attention])
    state = {"frequencies": frequencies(shape.width // shape.heads)} | weights
    state |= {name: torch.zeros(expected[name].shape) for name in set(expected) - set(state)}
    for name, weight in state.items():
        is_matrix = re.fullmatch(r"blocks\.\d+\.(qkv|out|up|down)\.(weight|bias)", name)
        weight = paired(weight, shape.heads) if ".qkv." in name else weight
        state[name] = weight.to(dtypes[precision] if is_matrix else torch.float32)
    network.load_state_dict(state, assign=True)
    return network

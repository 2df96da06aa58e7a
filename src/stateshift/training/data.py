"""What a training needs of an experiment: cells, splits, features, effects."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stateshift.cells import Cells, EffectTable, Experiment, Storage, estimate_effects
from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.feature_table import FeatureTable, genes_of, named_otherwise
from stateshift.files import sha256
from stateshift.training.anchored import Starts
from stateshift.training.held_back import Pair, some_cells, some_pairs

if TYPE_CHECKING:
    from stateshift.features import FeatureRequest

logger = logging.getLogger(__name__)

BY_NAME = ("fasta", "checkpoint", "layer", "pooling", "aliases")
"""Keys of ``[features]`` that `find_embedder` reads beside a table."""


@dataclass
class TrainingData:
    """An experiment read, split and joined with its features.

    Parameters
    ----------
    cells, split
        The cells, and the split of each (n,).
    features
        Vectors of the perturbed genes.
    effects
        Of the training cells, on the axis of ``cells``.
    every_gene
        The same effects on every gene of the files, where the cells are an ``obsm`` array with a part of them or an
        embedding and `Cells.every_gene` was read; else None.
    starts
        What the cells start from, where the model starts from a backbone; else None.
    """

    cells: Cells
    split: np.ndarray
    features: FeatureTable
    effects: EffectTable
    every_gene: EffectTable | None = None
    starts: Starts | None = None

    @property
    def predicted(self) -> EffectTable:
        """The training effects of all that a run predicts, which it keeps for its baselines."""
        return self.effects if self.every_gene is None else self.every_gene

    def features_for(self, encoder: str) -> FeatureTable:
        """The features as an encoder reads them: where it knows of missing sources, they are so."""
        return self.features.without_filled() if encoder == "sources" else self.features


def with_features(experiment: Experiment, choice: str | None) -> Experiment:
    """The experiment with a config's ``features`` in place of its own source or table.

    Parameters
    ----------
    experiment
        As parsed.
    choice
        A source's name; or a table's file, which has a suffix; None for what ``[features]`` says.

    Raises
    ------
    StateshiftError
        There is no such source, or no such file.
    """
    if choice is None:
        return experiment
    kept = {key: value for key, value in experiment.features.items() if key not in ("table", "source")}
    if not Path(choice).suffix:
        from stateshift.features import feature_source

        feature_source(choice)
        return replace(experiment, features={**kept, "source": choice})
    if not experiment.resolve(choice).is_file():
        raise StateshiftError(f"features={choice}: there is no such feature table.")
    if kept.get("missing") in ("zero", "mean"):  # said of a table that is made; of one that exists it fills nothing in
        del kept["missing"]
    return replace(experiment, features={**kept, "table": choice})


def prepare(
    experiment: Experiment,
    cells: Cells,
    split: np.ndarray,
    *,
    pert_features: str | Path | None = None,
    missing: str | None = None,
    seed: int = 0,
    whole_pairs: bool = False,
    held: set[Pair] | None = None,
) -> TrainingData:
    """Join cells and splits with the features of every perturbed gene and the training cells' effects.

    Parameters
    ----------
    experiment, cells, split
        As `stateshift.cells.read_all` gives them.
    pert_features
        A feature table; it wins over ``[features]``.
    missing
        ``error`` or ``drop``; it wins over ``[features] missing``.
    seed
        Draws the cells kept back for validation where no split is declared for it.
    whole_pairs
        Keep back whole pairs there, in place of a part of each pair's cells.
    held
        The whole pairs, as an earlier preparation of the same run chose them; by default they are drawn.
    """
    used = sorted(set(cells.obs["perturbation"][np.isin(split, ("train", "val", "test"))]))
    policy = missing or experiment.features.get("missing", "error")
    table = _features(experiment, pert_features, sorted({g for p in used for g in genes_of(p)}), policy)
    absent = table.missing(used)
    if absent and policy != "drop":
        raise StateshiftError(
            f"{len(absent)} perturbed genes have no feature vector: {some(absent, 20)}"
            f"{named_otherwise(absent, table.genes)}. Make a table that holds them, "
            "or pass --missing drop to leave their perturbations out by name."
        )
    split = split.copy()
    if absent:
        dropped = [p for p in used if any(g in set(absent) for g in genes_of(p))]
        logger.warning("no feature vector for %s: left out are %s", some(absent, 20), some(dropped, 20))
        declared = set(split)
        split[cells.obs["perturbation"].isin(dropped).to_numpy()] = ""
        for name in sorted({"val", "test"} & declared - set(split)):
            logger.warning("that leaves nothing of the declared %s split", name)
        used = [p for p in used if p not in set(dropped)]
        if not (split == "train").any():
            raise StateshiftError(f"{experiment.path}: no training perturbation has a feature vector.")
    if not (split == "val").any():
        split[some_pairs(cells, split, held) if whole_pairs else some_cells(cells, split, seed)] = "val"
    genes = sorted({g for p in used for g in genes_of(p)})
    if len(genes) > 1 and not np.ptp(table.subset(genes).vectors, axis=0).any():
        raise StateshiftError(
            f"{experiment.path}: the perturbation features are the same for all {len(genes):,} genes, so that nothing could "
            "tell them apart: choose another table."
        )
    filled = [g for g in genes if g in table.provenance.get("missing_policy", {})]
    if filled:
        logger.warning("no vector of their own, filled in when the table was made: %s", some(filled, 20))
    effects = estimate_effects(cells, split == "train")
    whole = None if cells.every_gene is None else estimate_effects(cells.every_gene, split == "train")
    return TrainingData(cells, split, table.subset(genes), effects, whole)


def _features(experiment: Experiment, pert_features: str | Path | None, genes: list[str], policy: str) -> FeatureTable:
    """The table named by the caller or by ``[features]``, or one built from its source."""
    declared = experiment.features
    made_here = pert_features is None and "table" not in declared
    policies = ("error", "drop", "zero", "mean") if made_here else ("error", "drop")
    if policy not in policies:
        hint = "" if made_here else " for a table that exists; zero and mean are chosen as one is made"
        raise StateshiftError(f"missing = {policy} is no policy{hint}{suggestion(policy, policies)}.")
    path = pert_features or (experiment.resolve(declared["table"]) if "table" in declared else None)
    if path is not None:
        return FeatureTable.load(path)
    if not declared:
        raise StateshiftError(
            f"{experiment.path} names no perturbation features: pass --pert-features TABLE.pt "
            '(create_esm_pert_features makes one), or add [features] with  source = "onehot".'
        )
    from lightning.pytorch.utilities import rank_zero_only

    # each process of several builds its own, and what is unfinished lies in files of their own
    rank = getattr(rank_zero_only, "rank", 0) or ""
    return made_features(experiment, genes, experiment.path.with_suffix(f".features{rank}.pt"), policy)


def made_features(experiment: Experiment, genes: list[str], output: Path, policy: str) -> FeatureTable:
    """The table that the source in ``[features]`` makes of genes.

    Parameters
    ----------
    experiment
        Its ``[features]`` hold the source and what it needs.
    genes
        Symbols, each once.
    output
        Unfinished work lies beside it; the table is not written.
    policy
        ``error``, ``drop``, ``zero`` or ``mean``: what becomes of genes without a vector.
    """
    from stateshift.features import build_features, resume_file

    request = feature_request(experiment, genes, output, policy)
    built = build_features(request, source_of(experiment))
    resume_file(request.output).unlink(missing_ok=True)
    return built


def refuse_other_inputs(experiment: Experiment, made: Path) -> None:
    """A StateshiftError where a table that is kept was made of other files than ``[features]`` names now.

    Parameters
    ----------
    experiment
        As `made_features` takes it.
    made
        The table.
    """
    told = FeatureTable.load(made).provenance
    for key in ("lookup", "fasta"):
        file = experiment.resolve(experiment.features[key]) if key in experiment.features else None
        kept = told.get(f"{key}_sha256")
        if file is not None and file.is_file() and kept is not None and sha256(file) != kept:
            raise StateshiftError(
                f"{made} was made of another {file.name}, which was written anew since: choose another --output, whose table "
                "is made of it."
            )


def source_of(experiment: Experiment) -> str:
    """The source that ``[features]`` names, or means where it names no table either."""
    return experiment.features.get("source", "esm2")


def feature_request(experiment: Experiment, genes: list[str], output: Path, policy: str) -> FeatureRequest:
    """What the source in ``[features]`` is asked for; arguments as `made_features` takes them."""
    from stateshift.features import FeatureRequest

    declared = experiment.features
    checkpoint, fasta, lookup, aliases = (declared.get(key) for key in ("checkpoint", "fasta", "lookup", "aliases"))
    if checkpoint is not None and experiment.resolve(checkpoint).exists():
        checkpoint = str(experiment.resolve(checkpoint))
    return FeatureRequest(
        genes,
        output,
        fasta=experiment.resolve(fasta) if fasta else None,
        lookup=experiment.resolve(lookup) if lookup else None,
        aliases=experiment.resolve(aliases) if aliases else None,
        checkpoint=checkpoint,
        layer=declared.get("layer", -1),
        pooling=declared.get("pooling", "mean"),
        missing=policy,
        experiment=experiment,
        transductive=declared.get("transductive", False),
    )


def unread_features(experiment: Experiment, config: Mapping[str, Any]) -> list[str]:
    """Sentences on keys of ``[features]`` that nothing reads, where the config doesn't choose other features.

    Parameters
    ----------
    experiment
        As parsed.
    config
        Of a training: a model that embeds genes by name reads of proteins itself, beside a table too.

    Raises
    ------
    StateshiftError
        There is no such source.
    """
    from stateshift.features.registry import CHOICES, readers, unread

    declared = experiment.features
    if not declared or config["features"] is not None:
        return []
    by_name = BY_NAME if config["model"].get("encoder") == "esm" else ()
    chosen = [key for key in declared if key in CHOICES and key not in by_name]
    if "table" not in declared:
        way = "name another source" if "source" in declared else "say which  source  is meant"
        return [
            f"[features] {key}: {why}. Leave it out, or {way}."
            for key, why in unread(source_of(experiment), chosen).items()
        ]
    return [
        f"[features] {key} is read of no table: leave it out, or name a source in the table's place ({', '.join(readers(key))} "
        f"{'do' if len(readers(key)) > 1 else 'does'}{', and model=esm_state beside a table' if key in BY_NAME else ''})."
        for key in chosen
        if key != "lookup"  # which the experiment refuses itself
    ]


def refuse_unread_features(experiment: Experiment, config: Mapping[str, Any]) -> None:
    """An InputProblems of what `unread_features` finds."""
    if problems := unread_features(experiment, config):
        raise InputProblems(str(experiment.path), problems)


def storage_of(config: dict[str, Any]) -> Storage:
    """Where a config's ``data`` group has the matrices kept."""
    cache = config["data"]["cache"]
    return Storage(config["data"]["memory_gb"], Path(cache).expanduser() if cache else None)


def batch_names(config: dict[str, Any], data: TrainingData) -> list[str]:
    """Batches of the training cells, sorted, where the config's model tells batches apart."""
    if not (config["model"].get("batch_encoder") or config["model"].get("batch_token")):
        return []
    return sorted(set(data.cells.obs["batch"][data.split == "train"]) - {""})

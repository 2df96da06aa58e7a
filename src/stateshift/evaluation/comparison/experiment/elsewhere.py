"""Predictions made elsewhere: a file a fold, of a model that nothing here can fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stateshift.cells import Cells, EffectTable, read_effects
from stateshift.cells.columns import CONTROL
from stateshift.cells.labels import single_names
from stateshift.cells.loading import read_cells, read_file
from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.evaluation.comparison.experiment.candidates import model_names
from stateshift.evaluation.comparison.experiment.stages import FoldEffects
from stateshift.genes.doubles import as_spelt, misspelt_doubles
from stateshift.genes.spelling import alike

SUFFIX = ".h5ad"


@dataclass(frozen=True)
class Elsewhere:
    """What a model of elsewhere predicts.

    Parameters
    ----------
    name
        The model's, as its file or folder is called.
    path
        An h5ad file for the one fold of a declared test split; or a folder with ``FOLD.h5ad`` for each.
    columns
        ``[columns]`` of the experiment, which stand where a file has them.
    """

    name: str
    path: Path
    columns: Mapping[str, str]

    def file(self, fold: str) -> Path:
        """The file of a fold."""
        return self.path / f"{fold}{SUFFIX}" if self.path.is_dir() else self.path

    def effects(self, fold: FoldEffects) -> dict[tuple[str, str], np.ndarray]:
        """(context, perturbation) → effect (G,) of those of a fold's pairs that its file predicts.

        A file of effects (``uns["stateshift"]["kind"]``) holds them; cells give their mean less that of the context's
        control cells, which training effects were measured from too.

        Raises
        ------
        StateshiftError
            The file can't be read, lacks genes, is on another scale, or predicts none of the pairs.
        InputProblems
            Names in another spelling than the experiment's.
        """
        path, truth = self.file(fold.name), fold.truth
        stored = read_file(path, with_matrix=False)
        if dict(stored.uns.get("stateshift", {})).get("kind") == "effects":
            table = _on_genes(read_effects(path, in_context=_only(truth.contexts)), fold, path)
        else:
            named = {role: column for role, column in self.columns.items() if column in stored.obs.columns}
            named |= {"control": self.columns["control"]} if "control" in self.columns else {}
            table = _of_cells(read_cells(path, named, needs_control=False, genes=truth.genes), fold)
        if table.scale != truth.scale:
            raise StateshiftError(
                f"{path} is on the scale {table.scale or 'unknown'}, and what it is compared with on {truth.scale}: "
                f'bring it there, and say so: adata.uns["stateshift"]["scale"] = "{truth.scale}".'
            )
        table = replace(table, perturbations=_as_measured(table, truth, path))
        wanted = set(zip(truth.contexts, truth.perturbations))
        pairs = zip(table.contexts, table.perturbations)
        found = {pair: effect for pair, effect in zip(pairs, table.effects) if pair in wanted}
        if not found:
            raise StateshiftError(
                f"{path} predicts none of the {len(wanted)} pairs of {fold.name}, as {some(_told(sorted(wanted)), 2)}; it "
                f"holds {some(_told(zip(table.contexts, table.perturbations)), 2)}."
            )
        return found


def from_elsewhere(models: Sequence[str], columns: Mapping[str, str]) -> tuple[list[str], dict[str, Elsewhere]]:
    """Names of models, and what files and folders among the words predict, by name.

    Raises
    ------
    StateshiftError
        There is no such file, or it goes by the name of a model or of another file.
    """
    known, names, found = model_names(), [], {}
    for word in models:
        path = Path(word)
        if word in known or not (path.suffix == SUFFIX or path.is_dir()):
            names.append(word)
            continue
        name = path.resolve().name.removesuffix(SUFFIX)
        if not path.exists():
            near = [file.name for file in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []
            raise StateshiftError(f"--models {word}: there is no such file{suggestion(path.name, near)}.")
        if name in known or name in found:
            raise StateshiftError(f"--models {word}: another model goes by the name `{name}`: rename it.")
        found[name] = Elsewhere(name, path.resolve(), dict(columns))
    return names, found


def refuse_absent_files(elsewhere: Mapping[str, Elsewhere], folds: Sequence[str], folder: Path) -> None:
    """Every fold needs a file, of a model that trained on that fold.

    Raises
    ------
    StateshiftError
        A folder lacks some, or one file stands for several folds.
    """
    for of in elsewhere.values():
        one_for_all = len(folds) == 1 and not of.path.is_dir()
        lacking = [] if one_for_all else [fold for fold in folds if not (of.path / f"{fold}{SUFFIX}").is_file()]
        if lacking:
            raise StateshiftError(
                f"--models {of.path}: a folder with {some([f'{fold}{SUFFIX}' for fold in lacking])} is needed, each predicted by "
                f"a model that was trained on that fold ({folder}/folds/{lacking[0]} says what trains and what is asked)."
            )


def _only(contexts: Sequence[str]) -> str:
    return contexts[0] if len(set(contexts)) == 1 else "unnamed"


def _on_genes(table: EffectTable, fold: FoldEffects, path: Path) -> EffectTable:
    """Effects on the fold's genes; all of them have to be there, for pairs that are asked."""
    column = {gene: i for i, gene in enumerate(table.genes)}
    lacking = [gene for gene in fold.truth.genes if gene not in column]
    if lacking:
        raise StateshiftError(f"{path} lacks {len(lacking):,} of {len(fold.truth.genes):,} genes: {some(lacking, 4)}.")
    effects = table.effects[:, [column[gene] for gene in fold.truth.genes]]
    return EffectTable(
        list(fold.truth.genes), table.perturbations, table.contexts, effects, None, {}, scale=table.scale
    )


def _of_cells(cells: Cells, fold: FoldEffects) -> EffectTable:
    """Means of predicted cells less those of the controls; cells of other contexts and control cells are passed over."""
    asked = np.isin(cells.obs["context"], sorted(set(fold.truth.contexts))) & ~cells.is_control
    groups = cells.obs[asked].groupby(["context", "perturbation"], observed=True).indices
    rows = np.flatnonzero(asked)
    effects = [cells.X.mean(rows[of]) - fold.train.control_means[context] for (context, _), of in groups.items()]
    contexts, perturbations = [context for context, _ in groups], [perturbation for _, perturbation in groups]
    stacked = np.reshape(effects, (len(groups), len(cells.genes))).astype(np.float32)
    return EffectTable(list(cells.genes), perturbations, contexts, stacked, None, {}, scale=cells.scale)


def _as_measured(table: EffectTable, truth: EffectTable, path: Path) -> list[str]:
    """The file's perturbations as the truth spells them: doubles in any order, ``A+ctrl`` as ``A``."""
    names = as_spelt(single_names(table.perturbations, CONTROL), truth.perturbations)
    strange = sorted(set(names) - set(truth.perturbations))
    problems = misspelt_doubles(strange, {gene for name in truth.perturbations for gene in name.split("+")})
    for word, ours, theirs in (
        ("perturbation", truth.perturbations, names),
        ("context", truth.contexts, table.contexts),
    ):
        for spelt in alike(sorted({*ours, *theirs})):
            if set(spelt) & set(ours):
                problems.append(f"one {word} is spelt {' and '.join(f'`{name}`' for name in spelt)}: write it alike.")
    if problems:
        raise InputProblems(str(path), problems)
    return names


def _told(pairs) -> list[str]:
    return [f"{perturbation} in {context}" for context, perturbation in pairs]

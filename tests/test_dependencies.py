"""What is imported is declared, what is optional names its extra where it is absent, and the core's licences are free."""

from __future__ import annotations

import ast
import runpy
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from stateshift.errors import StateshiftError
from stateshift.files import refuse_parquet_without_pyarrow
from stateshift.rag_esm.homologs.alignment import identity
from stateshift.rag_esm.homologs.sources import read_source
from stateshift.structure.parsing import read_chains
from stateshift.structure.pipeline.record import Output
from stateshift.structure.pipeline.tables import read_vectors, write_named
from stateshift.structure.search import build_index
from stateshift.structure.training.pairs import tm_pairs
from stateshift.vector_index import VectorIndex

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
LICENCES = runpy.run_path(str(REPOSITORY / "scripts" / "licences.py"), run_name="licences")
PACKAGE_OF = {
    "esm": "fair-esm",
    "faiss": "faiss-cpu",
    "hydra": "hydra-core",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# an alternative that users may have; cell-eval's own; installed by scanpy, of which the extra wants a newer one
ALTERNATIVES = {"Bio", "polars", "networkx"}
OPTIONAL = {
    "gemmi": "structure",
    "faiss": "structure",
    "tmtools": "structure",
    "parasail": "rag",
    "transformers": "molecules",
    "cell_eval": "official",
    "peft": "lora",
    "wandb": "tracking",
}
"""Each is told with its extra: below, and in the tests of molecules, official scores, LoRA and loggers."""


def names(requirements: list[str]) -> set[str]:
    return {Requirement(text).name.lower().replace("_", "-") for text in requirements}


def imported() -> dict[str, set[str]]:
    """Third-party module → files of the package that import it."""
    found: dict[str, set[str]] = {}
    for file in sorted((REPOSITORY / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for module in modules:
                found.setdefault(module.partition(".")[0], set()).add(str(file.relative_to(REPOSITORY)))
    return {module: files for module, files in found.items() if module not in {*sys.stdlib_module_names, "stateshift"}}


def test_every_import_is_of_a_declared_package_and_the_optional_ones_are_known():
    core, optional = names(PROJECT["dependencies"]), set()
    for module, files in imported().items():
        package = PACKAGE_OF.get(module, module.replace("_", "-"))
        if package not in core and module not in ALTERNATIVES:
            optional.add(module)
            assert module in OPTIONAL, f"{module} ({min(files)}) is not declared, or has no test of its absence"
            assert package in names(PROJECT["optional-dependencies"][OPTIONAL[module]])
    assert optional == OPTIONAL.keys()


def test_every_requirement_has_a_lower_bound_that_scripts_can_hold_it_to():
    extras = [t for texts in PROJECT["optional-dependencies"].values() for t in texts if not t.startswith("stateshift")]
    for text in [*PROJECT["dependencies"], *extras]:
        assert [s.operator for s in Requirement(text).specifier].count(">=") == 1, text


def test_nothing_that_the_core_brings_binds_what_uses_it():
    brought = LICENCES["licences_of"](PROJECT["dependencies"])
    assert len(brought) > 60
    assert {
        name: stated for name, stated in brought.items() if LICENCES["binding"](stated) or stated == "none stated"
    } == {}
    page = (REPOSITORY / "docs" / "licences.md").read_text()
    for name in names(PROJECT["dependencies"]):
        assert f"| {name} |" in page, f"{name} is not in docs/licences.md: run scripts/licences.py"


@pytest.mark.parametrize(
    ("stated", "bound"),
    [
        ("MIT", False),
        ("GNU General Public License v3 (GPLv3)", True),
        ("CC-BY-NC-SA-4.0", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("AGPL-3.0-only", True),
    ],
)
def test_licences_that_bind_are_told_from_those_that_do_not(stated, bound):
    assert LICENCES["binding"](stated) is bound


def chain(tmp_path: Path) -> None:
    (tmp_path / "x.pdb").write_text("HEADER\n")
    read_chains(tmp_path / "x.pdb")


def written_parquet(tmp_path: Path) -> None:
    write_named({"a": torch.ones(2)}, tmp_path / "x.parquet")


def read_parquet(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    read_vectors(tmp_path / "x.parquet")


def clusters_in_parquet(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    read_source(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("module", "use", "extra"),
    [
        ("gemmi", chain, "structure"),
        ("faiss", lambda tmp_path: VectorIndex(4, {}), "structure"),
        ("faiss", lambda tmp_path: build_index(tmp_path / "unread", tmp_path / "index"), "structure"),
        ("pyarrow", lambda tmp_path: build_index(tmp_path / "unread", tmp_path / "index"), "structure"),
        ("pyarrow", lambda tmp_path: Output(tmp_path, "chains", "grouped", "parquet"), "structure"),
        ("tmtools", lambda tmp_path: tm_pairs({}), "structure"),
        ("parasail", lambda tmp_path: identity("MKV", "MKV"), "rag"),
        ("pyarrow", written_parquet, "structure"),
        ("pyarrow", read_parquet, "structure"),
        ("pyarrow", clusters_in_parquet, "structure"),
    ],
)
def test_an_optional_package_that_is_absent_is_told_with_its_extra(module, use, extra, tmp_path, monkeypatch):
    for absent in (module, "Bio"):
        monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(StateshiftError, match=rf"needs? {module}.*pip install 'stateshift\[{extra}\]'"):
        use(tmp_path)


def test_an_index_is_refused_before_anything_of_it_is_written_where_pyarrow_is_absent(tmp_path, monkeypatch):
    pytest.importorskip("faiss", reason="the extra structure is not installed")
    index = VectorIndex(2, {})
    index.add({"a": np.array([1, 0], np.float32)})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(StateshiftError, match=r"needs pyarrow.*stateshift\[structure\]"):
        index.save(tmp_path / "index")
    assert not (tmp_path / "index").exists()
    refuse_parquet_without_pyarrow("a.csv")

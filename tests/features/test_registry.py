"""Sources that other packages offer through the entry point group ``stateshift.features``."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.features import create_features

MODULE = '''
import numpy as np
from stateshift.feature_table import FeatureTable
from stateshift.features import reads

@reads("width")
def declared(request):
    """Ones, as wide as the user wants."""
    return FeatureTable(request.genes, np.ones((len(request.genes), request.width)), {"source": "declared"})

def lengths(request):
    """A gene's vector is the length of its symbol; symbols with a Q are unknown."""
    known = [gene for gene in request.genes if "Q" not in gene]
    vectors = np.array([[len(gene), 1.0] for gene in known])
    return FeatureTable(known, vectors, {"source": "lengths", "missing": {}})

def plain(request):
    return {gene: [1.0] for gene in request.genes}
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package invented here, installed as pip would leave it."""
    site = tmp_path / "site"
    described = site / "invented_features-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: invented-features\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(
        "[stateshift.features]\nlengths = invented_features:lengths\nbroken = invented_features:nothing\n"
        "declared = invented_features:declared\nplain = invented_features:plain\n"
    )
    (site / "invented_features.py").write_text(MODULE)
    monkeypatch.syspath_prepend(site)
    (tmp_path / "genes.txt").write_text("TP53\nQARS1\nMYC\n")
    return {"gene_list": tmp_path / "genes.txt", "output": tmp_path / "f.pt"}


def test_an_invented_source_makes_a_table_and_its_gaps_follow_the_policy(installed):
    with pytest.raises(StateshiftError, match="QARS1: `lengths` gave no vector"):
        create_features(**installed, source="lengths")
    table = create_features(**installed, source="lengths", missing="zero")
    np.testing.assert_array_equal(table.vectors, [[4, 1], [0, 0], [3, 1]])
    told = json.loads((installed["output"].parent / "f.pt.json").read_text())
    assert (told["source"], told["missing_policy"]) == ("lengths", {"QARS1": "zero"})


def test_what_an_invented_source_does_not_declare_to_read_is_refused(installed):
    with pytest.raises(StateshiftError, match="--width: `lengths` doesn't read it, gene_sets, .* random do"):
        create_features(**installed, source="lengths", width=3)
    assert len(create_features(**installed, source="declared", width=3)) == 3


def test_a_misspelt_source_is_refused_with_the_offered_name(installed):
    with pytest.raises(StateshiftError, match="did you mean `lengths`"):
        create_features(**installed, source="length")


def test_a_source_that_cannot_be_loaded_is_named_with_its_place(installed):
    with pytest.raises(StateshiftError, match=r"`broken` \(invented_features:nothing\) can't be loaded"):
        create_features(**installed, source="broken")


def test_a_source_that_gives_no_table_is_named(installed):
    with pytest.raises(StateshiftError, match="`plain` gives a dict: a FeatureTable is needed"):
        create_features(**installed, source="plain")

import anndata as ad
import numpy as np
import pytest

from stateshift.errors import InputProblems
from stateshift.prediction import predict
from stateshift.prediction.asked.requests import as_trained, refuse_misspelt
from stateshift.training import train

FAST = ["model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8"]
FAST += ["training.max_steps=2", "training.val_every=2"]


def test_a_double_goes_by_the_runs_name_and_counts_once():
    assert as_trained(["B+A", "C", "A+B", "D+C", "C+D"], ["A+B", "A"]) == ["A+B", "C", "D+C"]


@pytest.mark.parametrize("name", ["A_B", "A;B", "A, B"])
def test_other_separators_are_refused_with_the_right_form(name):
    with pytest.raises(InputProblems, match=r"a double is written `A\+B`"):
        refuse_misspelt(["A", name], ["A", name], {"A", "B"})


@pytest.mark.parametrize("name", ["HLA-A", "HLA_A", "A_B_like", "A_X"])
def test_names_of_which_a_half_is_unknown_are_let_be(name):
    refuse_misspelt([name], [name], {"A", "B"})


def test_a_name_that_is_itself_a_gene_is_let_be():
    refuse_misspelt(["A_B"], ["A_B"], {"A", "B", "A_B"})


def test_a_comma_in_a_line_of_a_file_is_no_double_and_is_told(tmp_path):
    listed = tmp_path / "genes.txt"
    listed.write_text("C\nA,B\n")
    with pytest.raises(
        InputProblems, match=r"genes.txt: 1 problem\n.*`A,B` names known genes: a double is written `A\+B`"
    ):
        refuse_misspelt(listed, ["C", "A"], {"A", "B", "C"})


def test_a_double_in_the_other_order_is_predicted_as_the_trained_one(screen, tmp_path):
    run = train(screen.toml, FAST, pert_features=screen.table, output_dir=screen.folder, name="run")
    made = [
        ad.read_h5ad(predict(run, cells=screen.cells, perturb=name, model="additive", output=tmp_path / f"{i}.h5ad"))
        for i, name in enumerate(("G1+G2", "G2+G1"))
    ]
    np.testing.assert_array_equal(made[0].X.toarray(), made[1].X.toarray())
    cells = made[1].obs[~made[1].obs.is_control]
    assert set(cells["target_gene"]) == {"G1+G2"}
    assert set(cells["route"]) == {"transfer"}
    assert set(cells["n_sources"]) == {2}


def test_a_file_with_misspelt_doubles_is_refused_before_anything_is_predicted(screen, tmp_path):
    run = train(screen.toml, FAST, pert_features=screen.table, output_dir=screen.folder, name="run")
    with pytest.raises(InputProblems, match=r"`G1_G2` names known genes: a double is written `G1\+G2`"):
        predict(run, cells=screen.cells, perturb=["G1_G2"], output=tmp_path / "p.h5ad")


def test_the_additive_effects_of_a_trained_double_are_its_own_in_any_order():
    from stateshift.cells import EffectTable
    from stateshift.effects import fit_effect_models

    effects = np.array([[1.0], [2.0], [9.0]], dtype=np.float32)
    table = EffectTable(["g"], ["A", "B", "A+B"], ["c"] * 3, effects, np.full(3, 9), {})
    model = fit_effect_models(table, None, ["additive"])["additive"]
    np.testing.assert_allclose(model.predict(["A+B", "B+A"], ["c", "c"]), [[9.0], [9.0]], atol=1e-5)
    assert model.routes(["B+A"], ["c"]) == ["transfer"]

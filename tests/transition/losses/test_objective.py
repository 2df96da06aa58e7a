import pytest
import torch

from stateshift.errors import InputProblems, StateshiftError
from stateshift.training import compose_config
from stateshift.transition.losses import Objective, Populations, delta_cosine, energy_distance, sinkhorn_divergence
from stateshift.transition.losses.objective import TERMS


def populations(**changes) -> Populations:
    random = torch.Generator().manual_seed(0)
    predicted, measured, control = torch.rand(3, 4, 10, 6, generator=random).unbind()
    return Populations(predicted, measured, control, torch.eye(4), **changes)


def test_a_loss_is_the_weighted_sum_of_its_terms():
    p = populations()
    losses = Objective({"energy": 1.0, "sinkhorn": 0.01, "delta_cosine": 0.5})(p)
    assert list(losses) == ["loss", "energy", "sinkhorn", "delta_cosine"]
    torch.testing.assert_close(losses["energy"], energy_distance(p.predicted, p.measured))
    expected = (
        energy_distance(p.predicted, p.measured)
        + 0.01 * sinkhorn_divergence(p.predicted, p.measured)
        + 0.5 * delta_cosine(p.predicted_shift, p.measured_shift)
    )
    torch.testing.assert_close(losses["loss"], expected)


def test_mse_is_torchs_mean_over_cells_and_genes():
    p = populations()
    losses = Objective({"mse": 1.0})(p)["mse"]
    assert losses.mean().item() == pytest.approx(torch.nn.functional.mse_loss(p.predicted, p.measured).item())


@pytest.mark.parametrize("term", TERMS)
def test_padding_counts_in_no_term(term):
    p, objective = populations(), Objective({term: 1.0})
    mask = (torch.arange(10) < 7).expand(4, 10)
    cut = Populations(p.predicted[:, :7], p.measured[:, :7], p.control[:, :7], p.features)
    p.mask = mask
    for cells in (p.predicted, p.measured, p.control):
        cells[:, 7:] = 5
    torch.testing.assert_close(objective(p)["loss"], objective(cut)["loss"])


@pytest.mark.parametrize("term", ["delta_cosine", "contrastive"])
def test_control_sets_have_no_shift_to_match(term):
    among = Objective({term: 1.0})(populations(is_control=torch.tensor([False, True, False, False])))[term]
    assert among[1] == 0
    kept = [0, 2, 3]
    p = populations()
    without = Objective({term: 1.0})(
        Populations(p.predicted[kept], p.measured[kept], p.control[kept], p.features[kept])
    )[term]
    torch.testing.assert_close(among[kept], without)


@pytest.mark.parametrize("term", TERMS)
def test_every_term_falls_as_its_gradient_is_followed(term):
    p, objective = populations(), Objective({term: 1.0})
    p.predicted.requires_grad_()
    before = objective(p)["loss"].sum()
    (slope,) = torch.autograd.grad(before, p.predicted)
    after = objective(Populations(p.predicted - 1e-2 * slope / slope.norm(), p.measured, p.control, p.features))["loss"]
    assert after.sum() < before - 0.5e-2 * slope.norm()


def test_all_that_is_wrong_with_a_loss_is_told_at_once():
    with pytest.raises(InputProblems) as caught:
        Objective({"enrgy": 1.0, "sinkhorn": -1, "blur": 0})
    assert "did you mean `energy`?" in str(caught.value)
    assert "loss.sinkhorn=-1" in str(caught.value)
    assert "loss.blur=0" in str(caught.value)


def test_a_loss_without_a_term_is_refused():
    with pytest.raises(StateshiftError, match="no term has a weight above 0"):
        Objective({"energy": 0.0})


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("energy", {"energy": 1.0}),
        ("sinkhorn", {"sinkhorn": 1.0}),
        ("energy_sinkhorn", {"energy": 1.0, "sinkhorn": 0.01}),
        ("mse", {"mse": 1.0}),
    ],
)
def test_the_shipped_losses_weigh_what_their_names_say(name, weights):
    assert Objective(compose_config([f"loss={name}"])["loss"]).weights == weights


def test_a_term_is_added_by_one_word():
    objective = Objective(compose_config(["loss.contrastive=0.1"])["loss"])
    assert objective.weights == {"energy": 1.0, "contrastive": 0.1}


def test_a_misspelt_loss_is_refused_with_a_suggestion():
    with pytest.raises(StateshiftError, match="did you mean `energy_sinkhorn`"):
        compose_config(["loss=energy_sinkhor"])

"""Filters by hand, the schedule, what is kept and what may change, and that seeds give the same again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stateshift.errors import InputProblems
from stateshift.rag_esm.model.checkpoint import load_rag_esm
from stateshift.rag_esm.model.tokens import tokens_of
from stateshift.rag_esm.sampling.denoise import denoise, filtered, schedule
from stateshift.rag_esm.sampling.inputs import Request
from stateshift.rag_esm.sampling.perplexity import pseudo_perplexity
from stateshift.rag_esm.sampling.sample import encoded, generate
from stateshift.rag_esm.sampling.settings import SamplingSettings

CHANCES = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.05, 0.05, 0.8]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"top_k": 2}, [[4 / 7, 3 / 7, 0, 0], [1 / 9, 0, 0, 8 / 9]]),
        ({"top_k": 1}, [[1, 0, 0, 0], [0, 0, 0, 1]]),
        ({"top_p": 0.65}, [[4 / 7, 3 / 7, 0, 0], [0, 0, 0, 1]]),
        ({"min_p": 0.6}, [[4 / 7, 3 / 7, 0, 0], [0, 0, 0, 1]]),
        ({"temperature": 0.5}, [[16 / 30, 9 / 30, 4 / 30, 1 / 30], [4 / 260, 1 / 260, 1 / 260, 256 / 260 - 2 / 260]]),
        ({"top_k": 3, "top_p": 0.5, "min_p": 0.9, "temperature": 9.0}, [[1, 0, 0, 0], [0, 0, 0, 1]]),
    ],
)
def test_filters_leave_the_chances_of_a_computation_by_hand(options, expected):
    found = filtered(CHANCES.log(), SamplingSettings(**options))
    expected = torch.tensor(expected)
    torch.testing.assert_close(
        found, expected / expected.sum(-1, keepdim=True), atol=3e-3 if "temperature" in options else 1e-5, rtol=0
    )


def test_min_p_of_one_protein_does_not_depend_on_its_neighbours():
    one = filtered(CHANCES[:1].log(), SamplingSettings(min_p=0.5))
    assert torch.equal(filtered(CHANCES.log(), SamplingSettings(min_p=0.5))[:1], one)


def test_the_schedule_fills_in_every_residue():
    for masked, iterations in ((10, 4), (3, 7), (100, 100), (7, 1)):
        assert sum(schedule(masked, iterations)) == masked
        assert max(schedule(masked, iterations)) - min(schedule(masked, iterations)) <= 1


@pytest.fixture
def model(demo_maker):
    return demo_maker().network


def run(network, inputs, contexts, **options):
    context = encoded(network, contexts)
    return denoise(network, inputs, context, SamplingSettings(**options), keep_steps=True)


def test_motifs_stay_exactly_and_everything_masked_becomes_an_amino_acid(model, protein_maker):
    inputs = ["--MKVLAG----WWW--", "-" * 12]
    made = run(model, inputs, [protein_maker(20), protein_maker(30, 1)], iterations=5, error_correction="all-masked")
    for masked, whole in zip(inputs, made.sequences):
        assert len(whole) == len(masked)
        assert set(whole) <= set("ACDEFGHIKLMNPQRSTVWY")
        assert all(a in ("-", b) for a, b in zip(masked, whole))
    assert made.generated[0].tolist() == [x == "-" for x in inputs[0]]


def test_each_iteration_fills_in_its_share_and_it_stops_when_nothing_is_left(model, protein_maker):
    made = run(model, ["-" * 10, "-" * 3 + "MK"], [protein_maker(20)] * 2, iterations=4)
    assert [[s.count("-") for s in step] for step in made.steps] == [[10, 3], [7, 2], [4, 1], [2, 0], [0, 0]]
    assert len(run(model, ["-" * 3], [protein_maker(20)], iterations=50).steps) == 4
    assert len(run(model, ["MKV"], [protein_maker(20)], iterations=50).steps) == 1


def test_a_seed_gives_the_same_and_whatever_batch_a_protein_is_in(model, protein_maker):
    requests = [Request(str(i), "-" * (8 + i), "c", protein_maker(20, i)) for i in range(5)]
    settings = SamplingSettings(iterations=4, temperature=1.5, mask_probability=0.1)
    together = [m.sequences[0] for m in generate(model, requests, settings, batch_size=5)]
    assert [m.sequences[0] for m in generate(model, requests, settings, batch_size=2)] == together
    other = SamplingSettings(iterations=4, temperature=1.5, mask_probability=0.1, seed=1)
    assert [m.sequences[0] for m in generate(model, requests, other)] != together


def test_a_protein_that_is_whole_is_corrected_no_longer_while_others_of_its_batch_are_filled_in(
    state_maker, protein_maker, tmp_path
):
    torch.save(state_maker(2, 64, 4, (0, 1)), tmp_path / "pytorch_model.bin")
    model = load_rag_esm(tmp_path, "cpu").network
    requests = [
        Request("short", "MKWW---LC", "c", protein_maker(20)),
        Request("long", "-" * 30, "c", protein_maker(20)),
    ]
    settings = SamplingSettings(iterations=30, temperature=5.0, error_correction="all-residues")
    together, alone = (generate(model, requests, settings, batch_size=size, keep_steps=True) for size in (2, 1))
    assert [m.sequences for m in together] == [m.sequences for m in alone]
    assert together[0].steps[3:] == [together[0].sequences]


def test_drawn_letters_have_the_models_chances(model, protein_maker):
    context = protein_maker(30)
    made = run(model, ["MKV-LAG"] * 1000, [context] * 1000, iterations=1)
    with torch.inference_mode():
        said = model.logits(model(tokens_of(["MKV-LAG"]), encoded(model, [context])))[0, 4, 4:24].softmax(-1)
    counts = np.array([sum(s[3] == x for s in made.sequences) for x in "LAGVSERTIDPKQNFYMHWC"]) / 1000
    np.testing.assert_allclose(counts, said.numpy(), atol=0.05)


def test_the_lowest_entropy_is_filled_in_first(model, protein_maker):
    context = protein_maker(30)
    made = run(model, ["MK---LAGW---"], [context], iterations=6, order="entropy", top_k=1)
    with torch.inference_mode():
        said = model.logits(model(tokens_of(["MK---LAGW---"]), encoded(model, [context])))[0, 1:-1, 4:24]
    entropy = torch.distributions.Categorical(logits=said).entropy()
    places = [2, 3, 4, 9, 10, 11]
    first = min(places, key=lambda i: entropy[i])
    filled = [i for i in places if made.steps[1][0][i] != "-"]
    assert filled == [first]
    assert made.steps[1][0][first] == "LAGVSERTIDPKQNFYMHWC"[int(said[first].argmax())]
    assert made.entropy[0][0] == pytest.approx(float(entropy[places].mean()), rel=1e-4)


def likeliest(network, sequence, context):
    """What the model would put at each residue that it sees."""
    with torch.inference_mode():
        said = network.logits(network(tokens_of([sequence]), encoded(network, [context])))[0, 1:-1, 4:24]
    return ["LAGVSERTIDPKQNFYMHWC"[int(i)] for i in said.argmax(-1)]


@pytest.mark.parametrize("mode", ["prev-unmasked", "all-masked", "all-residues"])
def test_error_correction_replaces_what_it_covers_by_the_likeliest_and_nothing_else(
    state_maker, protein_maker, tmp_path, mode
):
    # random weights would put something else nearly everywhere
    torch.save(state_maker(2, 64, 4, (0, 1)), tmp_path / "pytorch_model.bin")
    model = load_rag_esm(tmp_path, "cpu").network
    start, context = "MKWW--------LCHH", protein_maker(30)
    made = run(
        model, [start], [context], iterations=8, error_correction=mode, start_error_correction=4, temperature=5.0
    )
    changed = 0
    for number in range(1, 9):
        before, after = made.steps[number - 1][0], made.steps[number][0]
        newest = {i for i in range(len(start)) if number > 1 and made.steps[number - 2][0][i] == "-" != before[i]}
        filled = {i for i in range(len(start)) if start[i] == "-" != before[i]}
        covered = {
            "prev-unmasked": newest,
            "all-masked": filled,
            "all-residues": {i for i, x in enumerate(before) if x != "-"},
        }
        best = likeliest(model, before, context)
        for i, letter in enumerate(before):
            if letter != "-":
                expected = best[i] if number > 4 and i in covered[mode] else letter
                assert after[i] == expected, (number, i)
                changed += after[i] != letter
    assert changed


def test_all_residues_may_be_masked_by_chance_and_no_more(model, protein_maker):
    given = protein_maker(200)
    made = run(model, [given], [protein_maker(30)], iterations=1, mask_probability=0.3, seed=3)
    assert made.generated[0].mean() == pytest.approx(0.3, abs=0.08)
    kept = ~made.generated[0]
    assert [x for x, k in zip(made.sequences[0], kept) if k] == [x for x, k in zip(given, kept) if k]


def test_pseudo_perplexity_masks_one_generated_residue_at_a_time_and_counts_no_other(model, protein_maker):
    sequence, homolog = protein_maker(14), protein_maker(20, 1)
    places = np.array([i in (2, 7, 8) for i in range(14)])
    context = encoded(model, [homolog])
    nats = []
    for i in (2, 7, 8):
        masked = sequence[:i] + "-" + sequence[i + 1 :]
        with torch.inference_mode():
            said = model.logits(model(tokens_of([masked]), context))[0, i + 1].log_softmax(-1)
        nats.append(-float(said[tokens_of([sequence])[0, i + 1]]))
    found = [pseudo_perplexity(model, sequence, places, context, tokens_per_batch=budget) for budget in (16, 4096)]
    np.testing.assert_allclose(found, math.exp(np.mean(nats)), rtol=1e-4)
    assert math.isnan(pseudo_perplexity(model, sequence, np.zeros(14, bool), context))


def test_settings_without_sense_are_told_together():
    with pytest.raises(InputProblems) as caught:
        SamplingSettings(iterations=0, temperature=0.0, top_p=2.0, order="entrpy", error_correction="some")
    assert len(caught.value.problems) == 5

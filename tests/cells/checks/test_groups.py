TEST = '[training]\none = "train"\n[zeroshot]\n"one.A549" = "test"\n'


def test_small_groups_are_counted_by_split_and_the_smallest_named(write_file, experiment, notes):
    write_file(
        "one",
        [
            *[("K562", "non-targeting"), ("K562", "G1", 10), ("K562", "G2", 9), ("K562", "G3", 2)],
            *[("A549", "non-targeting", 4), ("A549", "G1", 3), ("A549", "G2", 12)],
        ],
    )
    found = notes(experiment(TEST))
    assert "train: 2 of 3 groups hold fewer than 10 cells: G3 in K562 (2), G2 in K562 (9)." in found
    assert "test: 1 of 2 groups hold fewer than 10 cells: G1 in A549 (3)." in found
    assert "control: 1 of 2 groups hold fewer than 10 cells: non-targeting in A549 (4)." in found


def test_many_small_groups_are_told_by_the_first_five(write_file, experiment, notes):
    write_file("one", [(c, p, 4) for c in ("K562", "A549") for p in ("non-targeting", *"ABCDEFG")])
    (said,) = [n for n in notes(experiment(TEST)) if n.startswith("train: 7 of 7")]
    assert said.endswith("A in K562 (4), B in K562 (4), C in K562 (4), D in K562 (4), E in K562 (4) and 2 more.")


def test_cells_of_batches_without_controls_are_counted(write_file, experiment, notes):
    write_file(
        "one",
        [
            ("K562", "non-targeting", 12, "b1"),
            ("K562", "G1", 12, "b1"),
            ("K562", "G1", 11, "b2"),
            ("K562", "G2", 10, "b3"),
            ("A549", "non-targeting", 12, "b2"),
            ("A549", "G1", 12, "b2"),
        ],
    )
    assert (
        "21 perturbed cells are in 2 batches without controls, and are matched with controls of their file and cell type: "
        "b2 (K562 in one.h5ad), b3 (K562 in one.h5ad)." in notes(experiment(TEST))
    )


def test_batches_that_all_hold_controls_need_no_word(write_file, experiment, notes):
    write_file("one", [(c, p, 12, b) for c in ("K562", "A549") for p in ("non-targeting", "G1") for b in ("b1", "b2")])
    assert not [n for n in notes(experiment(TEST)) if "batch" in n or "fewer" in n]

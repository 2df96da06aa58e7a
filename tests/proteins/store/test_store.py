"""Stores: filled, broken off, cut short, damaged, and read back to the last bit."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.proteins.store.reader import EmbeddingStore
from stateshift.proteins.store.writer import StoreWriter

SEQUENCES = {"a": "MKV", "b": "MK" * 50, "same as a": "MKV", "c": "W" * 300}
SETTINGS = {"model_sha256": "0", "layer": 6, "pooling": "mean"}
BOTH = ("residue", "protein")


def open_writer(path, sequences=SEQUENCES, settings=SETTINGS, levels=BOTH, **options):
    return StoreWriter(path, sequences, settings, model="m", width=4, levels=levels, **options)


def values(text):
    """What the model of these tests says of a sequence."""
    rng = np.random.default_rng(len(text))
    return {"residue": rng.normal(size=(len(text), 4)).astype("f4"), "protein": rng.normal(size=4).astype("f4")}


def fill(writer, numbers):
    for number in numbers:
        writer.add(number, values(writer.texts[number]))


@pytest.fixture
def whole(tmp_path):
    with open_writer(tmp_path / "x.h5.part") as writer:
        fill(writer, range(3))
        writer.finish(tmp_path / "x.h5")
    return tmp_path / "x.h5"


def test_rows_and_vectors_come_back_by_id_to_the_last_bit(whole):
    with EmbeddingStore(whole) as store:
        assert store.ids == list(SEQUENCES)
        assert (len(store), store.width, store.levels, store.model) == (4, 4, BOTH, "m")
        assert store.settings == SETTINGS
        for name, sequence in SEQUENCES.items():
            assert store.sequence(name) == sequence
            assert store.length(name) == len(sequence)
            np.testing.assert_array_equal(store.residue(name), values(sequence)["residue"])
            np.testing.assert_array_equal(store.protein(name), values(sequence)["protein"])
        np.testing.assert_array_equal(store.proteins()[2], store.protein("a"))
    assert not whole.with_name("x.h5.part").exists()


def test_equal_sequences_are_kept_once(whole):
    with h5py.File(whole) as file:
        assert file["residue"].shape == (3 + 100 + 300, 4)
        assert file["protein"].shape == (3, 4)


def test_the_file_is_plain_hdf5_that_others_read(whole):
    with h5py.File(whole) as file:
        number = file["sequence_of"][list(SEQUENCES).index("b")]
        start, end = file["start"][number : number + 2]
        np.testing.assert_array_equal(file["residue"][start:end], values(SEQUENCES["b"])["residue"])


def test_an_id_that_is_not_there_and_a_level_that_is_not_kept_are_told(whole, tmp_path):
    with EmbeddingStore(whole) as store, pytest.raises(StateshiftError, match="did you mean `same as a`"):
        store.protein("same as b")
    with open_writer(tmp_path / "p.part", levels=("protein",)) as writer:
        fill(writer, range(3))
        writer.finish(tmp_path / "p.h5")
    with EmbeddingStore(tmp_path / "p.h5") as store, pytest.raises(StateshiftError, match="protein level alone"):
        store.residue("a")


def test_half_precision_keeps_residues_to_three_digits_and_vectors_whole(tmp_path):
    with open_writer(tmp_path / "x.part", half=True) as writer:
        fill(writer, range(3))
        writer.finish(tmp_path / "x.h5")
    with EmbeddingStore(tmp_path / "x.h5") as store:
        assert store.residue("c").dtype == np.float16
        np.testing.assert_allclose(store.residue("c"), values(SEQUENCES["c"])["residue"], rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(store.protein("c"), values(SEQUENCES["c"])["protein"])


def test_values_that_half_precision_cannot_hold_and_no_numbers_are_refused(tmp_path):
    with open_writer(tmp_path / "x.part", half=True) as writer:
        with pytest.raises(StateshiftError, match="--half"):
            writer.add(0, {"residue": np.full((3, 4), 1e5), "protein": np.zeros(4)})
        with pytest.raises(StateshiftError, match="no numbers"):
            writer.add(0, {"residue": np.zeros((3, 4)), "protein": np.full(4, np.nan)})
        assert not writer.done.any()


def test_what_was_written_before_a_kill_is_taken_up_and_an_unfinished_store_does_not_pass_for_a_whole_one(tmp_path):
    with open_writer(tmp_path / "x.part") as writer:
        fill(writer, [0, 2])
    with EmbeddingStore(tmp_path / "x.part") as store:
        np.testing.assert_array_equal(store.protein("a"), values("MKV")["protein"])
        with pytest.raises(StateshiftError, match="unfinished and lacks `b`"):
            store.protein("b")
    with open_writer(tmp_path / "x.part") as again:
        assert again.done.tolist() == [True, False, True]
        with pytest.raises(StateshiftError, match="lacks 1 sequences"):
            again.finish(tmp_path / "x.h5")


def test_rows_without_their_checksum_and_rows_that_changed_count_as_not_written(tmp_path):
    with open_writer(tmp_path / "x.part") as writer:
        fill(writer, range(3))
        place = writer._places["residue"] + 16 * (3 + 50)
        checks = writer._places["protein_check"]
    content = bytearray((tmp_path / "x.part").read_bytes())
    content[place] ^= 1
    content[checks : checks + 8] = bytes(8)
    (tmp_path / "x.part").write_bytes(content)
    with EmbeddingStore(tmp_path / "x.part") as store, pytest.raises(StateshiftError, match="`b` doesn't match"):
        store.residue("b")
    with open_writer(tmp_path / "x.part") as again:
        assert again.done.tolist() == [False, False, True]


@pytest.mark.parametrize("share", [0.75, 0.99])
def test_a_store_cut_short_is_refused_and_mended_when_named_as_unfinished(whole, share):
    content = whole.read_bytes()
    whole.write_bytes(content[: int(share * len(content))])
    with pytest.raises(StateshiftError, match=r"cut short: .* bytes.*x\.h5\.part and give the command"):
        EmbeddingStore(whole)
    part = whole.rename(whole.with_name("x.h5.part"))
    with open_writer(part) as writer:
        kept = writer.done.tolist()
        assert not all(kept)
        fill(writer, np.flatnonzero(~writer.done))
        writer.finish(whole)
    assert whole.read_bytes() == content


def test_a_store_of_which_hardly_anything_is_left_is_refused(whole):
    part = whole.rename(whole.with_name("x.h5.part"))
    os.truncate(part, part.stat().st_size // 3)
    with pytest.raises(StateshiftError, match="lost more than vectors, .* delete it"):
        open_writer(part)


def test_a_store_that_lost_its_beginning_and_files_of_others_are_refused(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(3000))
    with pytest.raises(StateshiftError, match="no store of embeddings"):
        EmbeddingStore(tmp_path / "x.h5")
    h5py.File(tmp_path / "y.h5", "w").close()
    with pytest.raises(StateshiftError, match="no store that `stateshift protein embed` wrote"):
        EmbeddingStore(tmp_path / "y.h5")
    with pytest.raises(StateshiftError, match="no such file"):
        EmbeddingStore(tmp_path / "z.h5")
    with pytest.raises(StateshiftError, match="no store"):
        open_writer(tmp_path / "x.h5")


def test_other_settings_and_other_levels_are_not_mixed_into_a_store(tmp_path):
    open_writer(tmp_path / "x.part").close()
    with pytest.raises(StateshiftError, match="layer 6 instead of 5; pooling mean instead of max"):
        open_writer(tmp_path / "x.part", settings={**SETTINGS, "layer": 5, "pooling": "max"})
    with pytest.raises(StateshiftError, match="levels"):
        open_writer(tmp_path / "x.part", levels=("protein",))
    with pytest.raises(StateshiftError, match="float16"):
        open_writer(tmp_path / "x.part", half=True)


def test_of_a_store_begun_for_other_sequences_what_still_serves_is_kept(tmp_path):
    with open_writer(tmp_path / "x.part") as writer:
        fill(writer, [0, 1])
    changed = {"new": "GGG", "renamed": SEQUENCES["b"], "a": "MKVL", "c": SEQUENCES["c"]}
    with open_writer(tmp_path / "x.part", changed) as writer:
        assert writer.texts == ["GGG", SEQUENCES["b"], "MKVL", SEQUENCES["c"]]
        assert writer.done.tolist() == [False, True, False, False]
    with EmbeddingStore(tmp_path / "x.part") as store:
        np.testing.assert_array_equal(store.residue("renamed"), values(SEQUENCES["b"])["residue"])


def test_two_commands_do_not_write_one_store(tmp_path):
    with open_writer(tmp_path / "x.part"), pytest.raises(StateshiftError, match="another process"):
        open_writer(tmp_path / "x.part")
    open_writer(tmp_path / "x.part").close()


def test_room_is_claimed_before_anything_is_embedded(tmp_path):
    with open_writer(tmp_path / "x.part", {"long": "M" * 30_000}) as writer:
        assert os.stat(writer.path).st_blocks * 512 >= 30_000 * 16

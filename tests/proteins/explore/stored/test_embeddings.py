"""Stored embeddings of every layout read alike, and what is damaged or holds code is refused and not run."""

from __future__ import annotations

import gzip
import os
import pickle
from collections import defaultdict
from functools import partial

import h5py
import numpy as np
import pytest
import torch

from stateshift.errors import InputProblems, StateshiftError
from stateshift.proteins.explore.stored.embeddings import read_embeddings
from stateshift.proteins.explore.stored.files import kind_of

LENGTHS = {"WT": 5, "M1_1": 5, "sp|P1|A": 7}


@pytest.fixture
def made():
    rng = np.random.default_rng(0)
    rows = {id: rng.standard_normal((length, 4)).astype(np.float32) for id, length in LENGTHS.items()}
    return {id: {"residue": r, "protein": r.mean(0)} for id, r in rows.items()}


def write(path, made):
    """The same embeddings in the layout that the file's name says."""
    flat = {f"{id}/{level}": array for id, levels in made.items() for level, array in levels.items()}
    tensors = {id: {level: torch.tensor(array) for level, array in levels.items()} for id, levels in made.items()}
    match path.suffix:
        case ".pkl":
            path.write_bytes(pickle.dumps(made))
        case ".pt":
            torch.save(tensors, path)
        case ".npz":
            np.savez(path, **flat)
        case ".h5":
            with h5py.File(path, "w") as file:
                for name, array in flat.items():
                    file[name] = array
    return path


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".npz", ".h5"])
def test_both_levels_come_back_as_they_were_whatever_the_file_is_called(tmp_path, made, suffix):
    path = write(tmp_path / f"x{suffix}", made)
    if suffix != ".pt":
        path = path.rename(tmp_path / "renamed")
    read = read_embeddings(path)
    assert sorted(read.ids) == sorted(LENGTHS)
    assert read.levels == ("residue", "protein")
    for id, levels in made.items():
        np.testing.assert_array_equal(read.residue(id), levels["residue"])
        np.testing.assert_array_equal(read.protein(id), levels["protein"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol_order_and_byte_order_read_alike(tmp_path, protocol):
    rows = np.arange(12.0).reshape(4, 3)
    made = {
        "a": np.asfortranarray(rows),
        "b": rows.astype(">f4"),
        "c": torch.tensor(rows).half(),
        "d": rows.astype("<f2"),
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(made, protocol=protocol))
    read = read_embeddings(tmp_path / "x.pkl")
    for id in made:
        np.testing.assert_array_equal(read.residue(id), rows)


def test_a_tensor_file_of_the_old_format_is_told_from_a_pickle_by_its_content(tmp_path, made):
    torch.save({"a": torch.ones(3)}, tmp_path / "x.dat", _use_new_zipfile_serialization=False)
    assert kind_of(tmp_path / "x.dat") == "torch"
    np.testing.assert_array_equal(read_embeddings(tmp_path / "x.dat").protein("a"), np.ones(3))


def test_other_makers_layouts_are_understood(tmp_path):
    matrix = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    np.savez(tmp_path / "matrix.npz", ids=np.array(["a", "b"]), embeddings=matrix)
    np.testing.assert_array_equal(read_embeddings(tmp_path / "matrix.npz").protein("b"), matrix[1])
    with h5py.File(tmp_path / "matrix.h5", "w") as file:
        file["ids"], file["x"] = ["a", "b"], matrix
    np.testing.assert_array_equal(read_embeddings(tmp_path / "matrix.h5").protein("a"), matrix[0])
    rows = torch.arange(8.0).reshape(4, 2)
    torch.save(
        {"label": "P1", "representations": {6: rows, 33: rows + 1}, "mean_representations": {33: rows.mean(0)}},
        tmp_path / "P1.pt",
    )
    read = read_embeddings(tmp_path / "P1.pt")
    np.testing.assert_array_equal(read.residue("P1"), rows + 1)
    np.testing.assert_array_equal(read.protein("P1"), [3.0, 4.0])
    assert read.notes == (
        "of representations/6, representations/33, `representations/33` is taken for the residue level (1 ids).",
    )
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([{"id": "a", "residue": matrix[None]}]))
    np.testing.assert_array_equal(read_embeddings(tmp_path / "list.pkl").residue("a"), matrix)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, call, *words):
        self.call, self.words = call, words

    def __reduce__(self):
        return self.call, self.words


@pytest.mark.parametrize("kind", ["pkl", "pt", "old pt", "npz"])
@pytest.mark.parametrize("call", ["os.system", "exec", "open"])
def test_code_in_a_file_is_refused_and_never_run(tmp_path, made, kind, call):
    touched = tmp_path / "touched"
    payload = {
        "os.system": Payload(os.system, f"touch {touched}"),
        "exec": Payload(exec, f"open({str(touched)!r}, 'w')"),
        "open": Payload(open, str(touched), "w"),
    }[call]
    content = {**made, "evil": {"residue": payload}}
    path = tmp_path / "x"
    if kind == "npz":
        with path.open("wb") as handle:
            np.savez(handle, evil=np.array([payload], dtype=object))
    elif kind == "pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "pt")
    with pytest.raises(
        StateshiftError, match="nothing in it was run|nothing was run|was not opened|Nothing in it was run"
    ):
        read_embeddings(path)
    assert not touched.exists()
    if kind == "pkl":
        pickle.loads(path.read_bytes())
        assert touched.exists()


def test_code_behind_an_allowed_name_is_refused_too(tmp_path):
    touched = tmp_path / "touched"
    inner = Payload(os.system, f"touch {touched}")
    import io

    buffer = io.BytesIO()
    torch.save(inner, buffer)
    outer = Payload(torch.storage._load_from_bytes, buffer.getvalue())
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": outer}))
    with pytest.raises(StateshiftError):
        read_embeddings(tmp_path / "x.pkl")
    assert not touched.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_text_and_defaultdicts_are_plain_content(tmp_path, made, protocol):
    nested = defaultdict(dict)
    for id, levels in made.items():
        nested[np.str_(id)].update(levels, note=np.array(["ä ☃", "b"]), organism=np.array([b"human"]))
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(nested, protocol=protocol))
    read = read_embeddings(path)
    assert read.ids == list(LENGTHS)
    for id, levels in made.items():
        np.testing.assert_array_equal(read.residue(id), levels["residue"])
    vectors = np.arange(6.0).reshape(2, 3)
    for ids in (np.array(["ä", "☃2"]), np.array([b"a", b"b2"]), np.array(["a", "b"], dtype=">U7")):
        path.write_bytes(pickle.dumps({"ids": ids, "x": vectors}, protocol=protocol))
        read = read_embeddings(path)
        assert read.ids == [id.decode() if isinstance(id, bytes) else id for id in ids.tolist()]
        np.testing.assert_array_equal(read.protein(read.ids[1]), vectors[1])


def test_what_a_defaultdict_would_call_is_never_called(tmp_path):
    touched = tmp_path / "touched"
    factory = partial(os.system, f"touch {touched}")
    forged = {
        "functools.partial": pickle.dumps(defaultdict(factory, {"a": np.ones(3)})),
        "can't be read as a pickle": pickle.dumps({"a": Payload(dict, ())}),
        "builtins.eval": pickle.dumps({"a": Payload(eval, f"open({str(touched)!r}, 'w')")}),
    }
    for told, content in forged.items():
        (tmp_path / "x.pkl").write_bytes(content)
        with pytest.raises(StateshiftError, match=told):
            read_embeddings(tmp_path / "x.pkl")
        assert not touched.exists()


def test_raw_memory_is_never_taken_for_objects(tmp_path):
    frombuffer = np.zeros(1).__reduce_ex__(5)[0]
    forged = [
        Payload(np.ndarray, (1,), "O", b"\x41" * 8),
        Payload(frombuffer, b"\x41" * 8, np.dtype("O"), (1,), "C"),
        np.array([{"a": 1}], dtype=object),
        Payload(frombuffer, b"\xff" * 8, np.dtype("<U2"), (1,), "C"),
    ]
    for content in forged:
        (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": content}))
        with pytest.raises(StateshiftError):
            read_embeddings(tmp_path / "x.pkl")


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".npz", ".h5"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_cut_short_is_refused_in_one_sentence(tmp_path, made, suffix, share):
    path = write(tmp_path / f"x{suffix}", made)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(StateshiftError, match=r"damaged|cut short") as caught:
        read_embeddings(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_store_of_ours_cut_short_is_refused(store):
    whole = store.read_bytes()
    for share in (0.2, 0.6, 0.95):
        store.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(StateshiftError, match=r"cut short|damaged|truncated"):
            read_embeddings(store).residue("WT")


def test_a_store_of_ours_brings_its_sequences_and_checks_its_rows(store, sequences, rows):
    read = read_embeddings(store)
    assert read.sequences == sequences
    np.testing.assert_array_equal(read.residue("WT"), rows["WT"])
    content = store.read_bytes()
    at = content.index(rows["WT"].tobytes())
    store.write_bytes(content[:at] + bytes(8) + content[at + 8 :])
    with pytest.raises(StateshiftError, match="doesn't match its checksum"):
        read_embeddings(store).residue("WT")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (np.ones((3, 4), "f4"), r"holds an array of shape \(3, 4\) without ids"),
        ("text", "holds a str without ids"),
        ({}, "is empty"),
        ({"ids": ["a", "b"], "x": np.ones((3, 4), "f4")}, "`ids` names 2 proteins, and `x` has 3 rows"),
        ({"ids": ["a", "b"], "x": np.ones((2, 4)), "y": np.ones((2, 4))}, "beside 2 matrices"),
    ],
)
def test_what_holds_no_embeddings_is_told_apart(tmp_path, content, told):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(StateshiftError, match=told):
        read_embeddings(tmp_path / "x.pkl")


def test_all_unusable_entries_are_named_at_once(tmp_path):
    rows = np.ones((2, 3), "f4")
    content = {"good": rows, "words": "text", "twice": {"x": rows, "y": rows}, "none": {}}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputProblems) as caught:
        read_embeddings(tmp_path / "x.pkl")
    assert caught.value.problems == [
        "`words` holds no numeric array of one or two dimensions.",
        "`twice` holds several arrays that could be its residue level (x, y).",
        "`none` holds no numeric array of one or two dimensions.",
    ]


def test_absent_files_and_ids_are_named_with_near_misses(tmp_path, made):
    with pytest.raises(StateshiftError, match="no such file of embeddings"):
        read_embeddings(tmp_path / "absent.h5")
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(StateshiftError, match="is no pickle, .pt, .npz or HDF5 file"):
        read_embeddings(tmp_path / "notes.txt")
    read = read_embeddings(write(tmp_path / "x.pkl", made))
    with pytest.raises(StateshiftError, match=r"no protein vector of `M1_2` \(did you mean `M1_1`\?\)"):
        read.protein("M1_2")


@pytest.mark.parametrize("names", [("WT", "M1_1"), ("1", "2"), (1, 2)])
@pytest.mark.parametrize("levels", [("residue", "protein"), ("residue",), ("protein",)])
def test_levels_above_ids_are_told_from_ids_above_levels(tmp_path, names, levels):
    rows = {id: np.full((5, 4), i, dtype="f4") for i, id in enumerate(names, start=1)}
    content = {level: {id: r if level == "residue" else r.mean(0) for id, r in rows.items()} for level in levels}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    read = read_embeddings(tmp_path / "x.pkl")
    assert read.ids == [str(id) for id in names]
    assert read.levels == levels
    for i, id in enumerate(read.ids, start=1):
        values = read.residue(id) if "residue" in levels else read.protein(id)
        assert (values == i).all()


def test_numbers_are_layers_in_files_of_fair_esm_alone(tmp_path):
    by_number = {"1": np.zeros((5, 4), "f4"), "2": np.ones((5, 4), "f4")}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"proteome": by_number}))
    with pytest.raises(InputProblems, match=r"`proteome` holds several arrays that could be its residue level"):
        read_embeddings(tmp_path / "x.pkl")
    (tmp_path / "y.pkl").write_bytes(pickle.dumps({"label": "WT", "representations": by_number}))
    assert (read_embeddings(tmp_path / "y.pkl").residue("WT") == 1).all()


def test_what_is_no_embedding_is_told_by_the_end_of_its_key(tmp_path):
    beside = {"attention_mask": np.ones(5), "contacts": np.ones((5, 5)), "lm_logits": np.ones((5, 33))}
    content = {"WT": {"token_embeddings": np.ones((5, 4), "f4"), **beside}}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    read = read_embeddings(tmp_path / "x.pkl")
    assert read.residue("WT").shape == (5, 4)
    assert read.levels == ("residue",)
    assert len(read.notes) == 3


def test_a_gzipped_pickle_is_not_taken_for_a_fasta(tmp_path):
    (tmp_path / "x.pkl.gz").write_bytes(gzip.compress(pickle.dumps({"WT": np.ones(4)})))
    assert kind_of(tmp_path / "x.pkl.gz") == "gzip"
    with pytest.raises(StateshiftError, match="x.pkl.gz is compressed: unpack it first"):
        read_embeddings(tmp_path / "x.pkl.gz")
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"\n>a\nMKV\n"))
    assert kind_of(tmp_path / "x.gz") == "fasta"


def open_files():
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def test_no_file_stays_open_behind_the_reader_whether_it_was_read_or_refused(tmp_path, store, made):
    before = open_files()
    for path in (store, write(tmp_path / "other.h5", made)):
        with read_embeddings(path) as held:
            assert held.residue("WT").shape[1] == 4
            assert open_files() > before
        assert open_files() == before
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["a/x"], file["a/y"] = np.ones((2, 3)), np.ones((2, 3))
    with pytest.raises(InputProblems):
        read_embeddings(tmp_path / "odd.h5")
    with h5py.File(store, "r+") as file:
        del file["sequence"]
    with pytest.raises(StateshiftError, match="is damaged: it lacks sequence"):
        read_embeddings(store)
    assert open_files() == before

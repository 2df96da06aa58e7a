"""The index against exact cosines, through growth, replacement, disk and damage."""

from __future__ import annotations

import json
import re
import resource

import numpy as np
import pytest

from stateshift import vector_index
from stateshift.errors import StateshiftError
from stateshift.vector_index import VectorIndex

pytest.importorskip("faiss", reason="indices need the extra `structure`")


def some_vectors(count: int, width: int = 16, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"v{i}": row for i, row in enumerate(rng.standard_normal((count, width)).astype(np.float32))}


def some_queries(count: int, width: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((count, width)).astype(np.float32)


def nearest_by_hand(vectors: dict[str, np.ndarray], query: np.ndarray, k: int) -> list[str]:
    names = list(vectors)
    rows = np.stack([vectors[n] for n in names]).astype(np.float64)
    cosines = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    return [names[i] for i in np.argsort(-cosines)[:k]]


@pytest.fixture
def index():
    made = VectorIndex(16, {"aggregator": "abc"})
    made.add(some_vectors(200), {"v3": {"organism": "yeast"}})
    return made


@pytest.fixture
def low_limit(monkeypatch):
    monkeypatch.setattr(vector_index, "EXACT_BELOW", 500)


def test_exact_search_gives_cosines_in_their_order(index):
    query = np.random.default_rng(9).standard_normal(16).astype(np.float32)
    (hits,) = index.search(query[None], top_k=7)
    assert [hit.name for hit in hits] == nearest_by_hand(some_vectors(200), query, 7)
    best = some_vectors(200)[hits[0].name]
    assert hits[0].score == pytest.approx(best @ query / np.linalg.norm(best) / np.linalg.norm(query), abs=1e-5)
    (near,) = index.search(query[None], top_k=200, threshold=0.3)
    assert 0 < len(near) < 200
    assert min(hit.score for hit in near) >= 0.3


def test_names_come_back_from_disk_with_their_metadata(index, tmp_path):
    index.save(tmp_path / "i")
    read = VectorIndex.load(tmp_path / "i")
    query = np.ones((1, 16), np.float32)
    assert read.search(query, 5) == index.search(query, 5)
    assert read.metadata["v3"] == {"organism": "yeast"}
    assert read.metadata["v4"] == {"organism": None}
    assert (read.about, len(read)) == ({"aggregator": "abc"}, 200)
    assert {f.suffix for f in (tmp_path / "i").iterdir()} == {".json", ".parquet", ".faiss"}


def test_a_replaced_vector_is_found_in_its_new_place_alone(index, tmp_path):
    query = np.zeros(16, np.float32)
    query[0] = 1
    assert index.add({"v5": query, "new": query * 2}) == (1, 1)
    for read in (index, VectorIndex.load(index.save(tmp_path / "i"))):
        (hits,) = read.search(query[None], top_k=300)
        assert sorted(hit.name for hit in hits[:2]) == ["new", "v5"]
        assert len(hits) == len({hit.name for hit in hits}) == len(read) == 201
        assert read.stats()["replaced"] == 0


def test_a_small_index_takes_any_number_of_updates(low_limit):
    index = VectorIndex(16)
    for round in range(30):
        assert index.add(some_vectors(20, seed=round)) == ((20, 0) if not round else (0, 20))
    np.testing.assert_allclose(
        index.vectors(["v3"])[0] @ some_vectors(20, seed=29)["v3"],
        np.linalg.norm(some_vectors(20, seed=29)["v3"]),
        rtol=1e-5,
    )
    assert index.stats()["vectors"] == 20


def test_metadata_that_came_as_words_and_as_numbers_is_words(index, tmp_path):
    index.add(some_vectors(2), {"v0": {"organism": 9606}})
    read = VectorIndex.load(index.save(tmp_path / "i"))
    assert [read.metadata[name]["organism"] for name in ("v0", "v1", "v3")] == ["9606", None, "yeast"]


def test_saving_again_leaves_files_of_others(index, tmp_path):
    folder = index.save(tmp_path / "i")
    (folder / "mine.parquet").write_text("kept")
    index.save(folder)
    assert (folder / "mine.parquet").read_text() == "kept"
    assert not (folder / "vectors.1.faiss").exists()


def test_saving_again_leaves_one_generation(index, tmp_path):
    for _ in range(3):
        index.save(tmp_path / "i")
    assert sorted(f.name for f in (tmp_path / "i").iterdir()) == ["about.json", "entries.3.parquet", "vectors.3.faiss"]


def recall(index: VectorIndex, vectors: dict[str, np.ndarray], queries: np.ndarray) -> float:
    """Of the ten nearest by hand."""
    found = index.search(queries, top_k=10)
    return np.mean(
        [len({h.name for h in hits} & set(nearest_by_hand(vectors, q, 10))) / 10 for q, hits in zip(queries, found)]
    )


def test_many_vectors_become_a_graph_with_the_recall_that_it_promises(low_limit, tmp_path):
    vectors = some_vectors(3000, 8)
    index = VectorIndex(8)
    index.add({name: vectors[name] for name in list(vectors)[:400]})
    assert index.is_exact
    index.add({name: vectors[name] for name in list(vectors)[400:]})
    assert not index.is_exact
    assert index.stats()["recall_at_10"] >= 0.95
    read = VectorIndex.load(index.save(tmp_path / "i"))
    assert read.stats() == index.stats()
    assert recall(read, vectors, some_queries(50, 8)) >= 0.95


def test_vectors_without_structure_stay_exact_and_the_index_says_why(low_limit, tmp_path):
    vectors = some_vectors(2000, 256)
    index = VectorIndex(256)
    index.add(vectors)
    assert index.is_exact
    assert recall(index, vectors, some_queries(20, 256)) == 1
    told = VectorIndex.load(index.save(tmp_path / "i")).stats()
    assert (told["kind"], told["recall_at_10"]) == ("exact", 1.0)
    share = re.match(r"a graph would compare (\d+)% of 2,000 vectors a query", told["why"])
    assert int(share[1]) > 50


def test_a_graph_that_misses_too_much_gives_way_to_its_own_vectors(low_limit, monkeypatch):
    monkeypatch.setattr(vector_index, "WORTH", 0.2)
    flat = {name: np.pad(row, (0, 253)) for name, row in some_vectors(1000, 3).items()}
    index = VectorIndex(256)
    index.add(flat)
    assert not index.is_exact
    wide = {f"w{i}": row for i, row in enumerate(some_vectors(2900, 256).values())}
    index.add(wide)
    assert index.is_exact
    assert "a graph of 3,900 vectors compared" in index.stats()["why"]
    queries = some_queries(20, 256)
    assert recall(index, flat | wide, queries) == 1
    index.add({"again": queries[0]})
    assert index.search(queries[:1], 1)[0][0].name == "again"


def test_a_graph_forgets_replaced_vectors_too(low_limit):
    index = VectorIndex(3)
    index.add(some_vectors(1000, 3))
    assert not index.is_exact
    query = some_vectors(1000, 3)["v7"]
    assert index.search(query[None], 1)[0][0].name == "v7"
    index.add({"v7": -query})
    assert index.search(query[None], 1)[0][0].name != "v7"
    assert index.search(-query[None], 1)[0][0].name == "v7"
    assert index.stats()["replaced"] == 1
    index._to_exact()
    assert len(index.names) == len(index) == 1000
    assert index.search(-query[None], 1)[0][0].name == "v7"
    np.testing.assert_allclose(index.vectors(["v7"])[0], -query / np.linalg.norm(query), rtol=1e-5)


def test_vectors_that_do_not_fit_are_told_and_nothing_is_added(index):
    with pytest.raises(StateshiftError, match=r"16 wide, w are 3 wide: they come from another model"):
        index.add({"ok": np.ones(16), "w": np.ones(3)})
    with pytest.raises(StateshiftError, match="zero, nan can't be compared by cosine"):
        index.add({"zero": np.zeros(16), "nan": np.full(16, np.nan)})
    with pytest.raises(StateshiftError, match="query 1 are 1536 wide"):
        index.search(np.ones((1, 1536), np.float32))
    assert len(index) == 200


def test_a_disk_that_is_full_as_vectors_are_written_keeps_the_index_that_was(tmp_path):
    index = VectorIndex(4)
    index.add({f"n{i}": np.eye(4, dtype=np.float32)[i % 4] + 0.1 * i for i in range(10)})
    index.save(tmp_path / "i")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(StateshiftError, match=r"vectors\.2\.faiss could not be written: no room is left"):
            index.save(tmp_path / "i")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(file.name for file in (tmp_path / "i").iterdir()) == [
        "about.json",
        "entries.1.parquet",
        "vectors.1.faiss",
    ]
    assert VectorIndex.load(tmp_path / "i").names == index.names


def test_no_index_a_damaged_one_and_one_of_strange_parts_are_told(index, tmp_path):
    with pytest.raises(StateshiftError, match=r"is no index: it lacks about\.json"):
        VectorIndex.load(tmp_path)
    folder = index.save(tmp_path / "i")
    whole = (folder / "vectors.1.faiss").read_bytes()
    (folder / "vectors.1.faiss").write_bytes(whole[:100])
    with pytest.raises(StateshiftError, match="is a damaged index"):
        VectorIndex.load(folder)
    for name in ("vectors.1.faiss", "entries.1.parquet"):
        content = (folder / name).read_bytes() if name.startswith("entries") else whole
        # the lowest bit of a byte amid the values
        flipped = (
            content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
        )
        (folder / name).write_bytes(flipped)
        with pytest.raises(StateshiftError, match=rf"{name} doesn't match its checksum\): build it again"):
            VectorIndex.load(folder)
        (folder / name).write_bytes(content)
    assert len(VectorIndex.load(folder)) == 200
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps({**about, "width": 17}))
    with pytest.raises(StateshiftError, match="vectors and names don't belong together"):
        VectorIndex.load(folder)
    for content in ({"width": 16}, [1]):
        (folder / "about.json").write_text(json.dumps(content))
        with pytest.raises(StateshiftError, match="is (a )?damaged"):
            VectorIndex.load(folder)

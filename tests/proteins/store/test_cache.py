import os

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.proteins import Recipe, embed_proteins, fill_store, load_esm2
from stateshift.proteins.store.cache import EmbeddingCache


@pytest.fixture
def esm(checkpoint_maker):
    return load_esm2(checkpoint_maker())


@pytest.fixture
def open_cache(esm, tmp_path):
    """The cache of mean vectors, and the texts that each fill was asked for."""

    def make(filled):
        recipe = Recipe()

        def fill(path, texts):
            filled.append(list(texts.values()))
            return fill_store(esm, path, texts, recipe)

        return EmbeddingCache(tmp_path / "cache", recipe.settings(esm), "protein", fill)

    return make


def test_a_text_is_embedded_once_by_whatever_process_comes_first(esm, open_cache, protein_maker):
    proteins = [protein_maker(n, seed=n) for n in (20, 30, 40)]
    filled = []
    first = open_cache(filled)
    assert first.ensure(proteins[:2]) == 2
    assert open_cache(filled).ensure(proteins) == 1
    assert first.ensure([*proteins, proteins[0]]) == 0
    assert filled == [proteins[:2], proteins[2:]]
    expected = dict(embed_proteins(esm, {text: text for text in proteins}))
    for text in proteins:
        np.testing.assert_allclose(first[text], expected[text], atol=1e-6)


def test_what_a_truncated_file_lost_is_embedded_anew_and_the_rest_is_kept(open_cache, protein_maker, tmp_path):
    proteins = [protein_maker(20, seed=n) for n in range(60)]
    whole = open_cache([])
    whole.ensure(proteins)
    values = [whole[text].copy() for text in proteins]
    whole.close()
    (path,) = tmp_path.glob("cache/*/*.h5")
    os.truncate(path, path.stat().st_size - 4 * 32)
    filled = []
    repaired = open_cache(filled)
    assert repaired.ensure(proteins) == 1
    assert filled == [proteins[-1:]]
    for text, value in zip(proteins, values):
        np.testing.assert_allclose(repaired[text], value, atol=1e-6)


def test_a_file_that_lost_its_beginning_goes(open_cache, protein_maker, tmp_path):
    text = protein_maker(20)
    cache = open_cache([])
    cache.ensure([text])
    cache.close()
    (path,) = tmp_path.glob("cache/*/*.h5")
    path.write_bytes(b"nothing")
    filled = []
    assert open_cache(filled).ensure([text]) == 1
    assert filled == [[text]]


def test_what_a_killed_process_had_embedded_serves(esm, open_cache, protein_maker, tmp_path):
    proteins = [protein_maker(n, seed=n) for n in (20, 30)]
    cache = open_cache([])

    class Killed(Exception):
        pass

    def killed(path, texts):
        writer = fill_store(esm, path, {name: text for name, text in texts.items() if text == proteins[0]}, Recipe())
        writer.close()
        raise Killed

    cache._fill = killed
    with pytest.raises(Killed):
        cache.ensure(proteins)
    filled = []
    assert open_cache(filled).ensure(proteins) == 1
    assert filled == [proteins[1:]]


def test_many_small_stores_become_one_and_keep_what_they_held(open_cache, protein_maker, tmp_path, monkeypatch):
    monkeypatch.setattr("stateshift.proteins.store.cache.MOST_FILES", 4)
    proteins = [protein_maker(20, seed=n) for n in range(5)]
    filled, values = [], {}
    for text in proteins:
        cache = open_cache(filled)
        cache.ensure([text])
        values[text] = cache[text].copy()
        cache.close()
    assert len(list(tmp_path.glob("cache/*/*.h5"))) == 2
    last = open_cache(filled)
    assert last.ensure(proteins) == 0
    assert len(filled) == 5
    for text, value in values.items():
        np.testing.assert_array_equal(last[text], value)


def test_a_recipe_finds_nothing_of_another(esm, open_cache, protein_maker, tmp_path):
    text = protein_maker(20)
    open_cache([]).ensure([text])
    other = Recipe(pooling="max")
    cache = EmbeddingCache(
        tmp_path / "cache", other.settings(esm), "protein", lambda path, texts: fill_store(esm, path, texts, other)
    )
    assert cache.ensure([text]) == 1
    np.testing.assert_allclose(cache[text], next(embed_proteins(esm, {"x": text}, pooling="max"))[1], atol=1e-6)


def test_a_folder_that_cannot_be_made_is_told(esm, open_cache, protein_maker, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(StateshiftError, match="can't be made"):
        open_cache([]).ensure([protein_maker(20)])

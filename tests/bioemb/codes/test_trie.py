"""The trie in an array is the trie of dictionaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stateshift.bioemb.codes import build_trie
from stateshift.errors import StateshiftError


@st.composite
def code_sets(draw) -> tuple[np.ndarray, int]:
    """Different codes of one length, and how many tokens there are."""
    tokens, length = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    code = st.tuples(*[st.integers(0, tokens - 1)] * length)
    codes = draw(st.lists(code, min_size=1, max_size=40, unique=True))
    return np.array(codes), tokens


def dictionary(codes: np.ndarray, end: int) -> dict[tuple[int, ...], set[int]]:
    """Prefix → the tokens that follow it in some code."""
    following: dict[tuple[int, ...], set[int]] = {}
    for code in codes.tolist():
        for step, token in enumerate([*code, end]):
            following.setdefault(tuple(code[:step]), set()).add(token)
    return following


@settings(max_examples=150, deadline=None)
@given(code_sets())
def test_masks_are_those_of_a_dictionary_of_prefixes(made):
    codes, tokens = made
    trie, following = build_trie(codes, tokens), dictionary(codes, tokens)
    masks = trie.allowed[trie.nodes]
    for entity, code in enumerate(codes.tolist()):
        for step in range(len(code) + 1):
            assert set(np.flatnonzero(masks[entity, step])) == following[tuple(code[:step])]
    assert len(trie.children) == len(following) + len(codes)


@settings(max_examples=150, deadline=None)
@given(code_sets())
def test_walking_a_code_ends_at_its_entity_and_nothing_else_ends(made):
    codes, tokens = made
    trie = build_trie(codes, tokens)
    for entity, code in enumerate(codes.tolist()):
        node = 0
        for step, token in enumerate([*code, tokens]):
            assert trie.nodes[entity, step] == node
            assert trie.entity[node] == -1
            node = trie.children[node, token]
        assert trie.entity[node] == entity
        assert trie.branches[node] == 0
    assert (trie.entity >= 0).sum() == len(codes)


def test_padding_and_the_beginning_never_follow():
    trie = build_trie(np.array([[0, 1], [1, 1]]), tokens=2)
    assert not trie.allowed[:, 3:].any()


def test_one_code_is_a_path_without_choices():
    trie = build_trie(np.array([[2, 0, 1]]), tokens=3)
    assert trie.branches.tolist() == [1, 1, 1, 1, 0]


def test_codes_alike_are_refused():
    with pytest.raises(StateshiftError, match="1 codes are the same as another"):
        build_trie(np.array([[0, 1], [0, 1], [1, 0]]), tokens=2)


@pytest.mark.parametrize("codes", [np.zeros((0, 2), int), np.array([[3]]), np.array([[-1]])])
def test_numbers_out_of_range_and_no_codes_are_refused(codes):
    with pytest.raises(StateshiftError, match="from 0 to 2, and one code at least"):
        build_trie(codes, tokens=3)

"""All codes as a tree in one array: which tokens may follow a prefix is one row of it.

Letters of shapes: E entities, T tokens of a code with its end, V tokens there are, M nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stateshift.errors import StateshiftError


@dataclass(frozen=True, eq=False)
class Trie:
    """The prefixes of all codes; node 0 is the empty one.

    Parameters
    ----------
    children
        (M, V) int32: the node that a token leads to, −1 where no code goes on so.
    nodes
        (E, T) int32: where each code stands before each of its tokens.
    targets
        (E, T) int64: the tokens of each code, its end included.
    entity
        (M,) int32: the entity whose code ends at a node, −1 elsewhere.
    """

    children: np.ndarray
    nodes: np.ndarray
    targets: np.ndarray
    entity: np.ndarray

    @property
    def allowed(self) -> np.ndarray:
        """(M, V) bool: the masks of a batch are ``allowed[nodes]``."""
        return self.children >= 0

    @property
    def branches(self) -> np.ndarray:
        """(M,) int64: how many tokens may follow; 1 is a step without a choice."""
        return self.allowed.sum(axis=1)


def build_trie(codes: np.ndarray, tokens: int) -> Trie:
    """The trie of codes, each ended by the token ``tokens`` (EOS).

    Parameters
    ----------
    codes
        (E, T − 1) whole numbers from 0 to ``tokens − 1``, no two rows alike.
    tokens
        How many numbers there are. Behind them come EOS, PAD and BOS, so V is ``tokens + 3``.

    Raises
    ------
    StateshiftError
        Two codes are alike, there are none, or a number is out of range.

    Examples
    --------
    >>> trie = build_trie(np.array([[0, 1], [0, 0]]), tokens=2)
    >>> trie.children[0].tolist()  # after nothing: only 0
    [1, -1, -1, -1, -1]
    >>> trie.branches[trie.nodes[0]].tolist()
    [1, 2, 1]
    """
    codes = np.asarray(codes)
    if not codes.size or codes.min() < 0 or codes.max() >= tokens:
        raise StateshiftError(f"A trie needs codes of numbers from 0 to {tokens - 1}, and one code at least.")
    vocabulary = tokens + 3
    targets = np.column_stack([codes, np.full(len(codes), tokens)]).astype(np.int64)
    nodes = np.zeros(targets.shape, dtype=np.int32)
    parents, edges, made = [], [], 1
    node = np.zeros(len(codes), dtype=np.int64)
    for step in range(targets.shape[1]):
        nodes[:, step] = node
        edge, child = np.unique(node * vocabulary + targets[:, step], return_inverse=True)
        parents.append(edge // vocabulary)
        edges.append(edge % vocabulary)
        node = made + child
        made += len(edge)
    if len(np.unique(node)) < len(node):
        raise StateshiftError(f"{len(node) - len(np.unique(node))} codes are the same as another: each must be unique.")
    children = np.full((made, vocabulary), -1, dtype=np.int32)
    children[np.concatenate(parents), np.concatenate(edges)] = np.arange(1, made)
    entity = np.full(made, -1, dtype=np.int32)
    entity[node] = np.arange(len(codes))
    return Trie(children, nodes, targets, entity)

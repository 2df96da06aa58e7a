"""Every entry of the catalogue says what a user has to know."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from stateshift.catalogue import PublicFile, entries, entry
from stateshift.proteins.esm2.models import PUBLISHED


def test_every_entry_says_where_it_comes_from_and_under_which_terms():
    known = entries()
    assert len(known) >= 20
    names = [file.name for e in known.values() for file in e.files]
    assert len(names) == len(set(names))
    for e in known.values():
        assert e.what, e.name
        assert e.licence, e.name
        assert e.citation, e.name
        assert e.source.startswith("https://"), e.name
        assert bool(e.files) != bool(e.manual), e.name
        for file in e.files:
            assert file.url.startswith("https://"), file
            assert Path(file.name).name == file.name, file
            assert file.size is None or file.size > 0, file
            assert file.unpack == file.name.endswith(".zip"), file
            if file.checksum:
                algorithm, _, digest = file.checksum.partition(":")
                assert re.fullmatch(r"[0-9a-f]+", digest), file
                assert len(digest) == 2 * hashlib.new(algorithm).digest_size, file


def test_what_users_ask_for_is_there():
    asked = {
        "vcc2025_train",
        "vcc2025_val",
        "vcc2025_test",
        "vcc2025_support",
        "replogle_k562_essential",
        "norman_2019",
    }
    asked |= {"replogle_rpe1", "replogle_k562_gwps", "nadig_hepg2", "nadig_jurkat", "adamson_2016", "kang_2018"}
    asked |= {"jiang_2025_tgfb", "tahoe_starter", "uniprot_human", "hgnc", *PUBLISHED}
    assert asked <= set(entries())
    assert entry("adamson_2016").size == 34_557_246 + 139_059_637 + 471_286_951
    assert entry("hgnc").size is None


@pytest.mark.parametrize("name", PUBLISHED)
def test_esm2_checkpoints_are_where_the_embedding_looks_for_them(name):
    model, regression = entry(name).files
    assert model == PublicFile(f"{name}.pt", f"https://dl.fbaipublicfiles.com/fair-esm/models/{name}.pt", model.size)
    assert regression.name == f"{name}-contact-regression.pt"

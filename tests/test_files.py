"""What everyone reads files by: tensors as plain numbers, JSON as an object, nothing else."""

import resource

import numpy as np
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.files import read_arrays, read_csv, read_json, read_tensors, refuse_broken, written_beside, yaml_text


@pytest.mark.parametrize("text", ["a: &a [x, x]\nb: [*a, *a]\n", "a: &a [*a]\n", "a: " + 5000 * "[" + 5000 * "]"])
def test_yaml_that_refers_to_itself_or_nests_without_end_is_not_read(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ValueError, match="write its values out"):
        yaml_text(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    "tensor",
    [torch.eye(2).to_sparse(), torch.empty(2, device="meta"), torch.ones(2, dtype=torch.complex64)],
    ids=["sparse", "without values", "complex"],
)
def test_tensors_that_are_no_plain_numbers_are_refused_wherever_they_lie(tensor, tmp_path):
    torch.save({"A": torch.ones(2), "B": [{"C": tensor}]}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="a tensor that is sparse, quantised, complex or without values"):
        read_tensors(tmp_path / "x.pt")


def test_what_was_a_parameter_is_read_as_its_numbers(tmp_path):
    loop = [torch.nn.Parameter(torch.ones(2))]
    loop.append(loop)
    torch.save({"A": loop}, tmp_path / "x.pt")
    read = read_tensors(tmp_path / "x.pt")["A"][0]
    assert (read.tolist(), read.requires_grad) == ([1.0, 1.0], False)


def test_weights_that_are_no_numbers_any_more_are_named():
    weights = {"a": torch.ones(2), "b": torch.tensor([0.0, np.inf]), "c": torch.tensor(np.nan), "n": torch.arange(3)}
    with pytest.raises(StateshiftError, match="x.pt holds NaN or infinity in b, c: copy it anew, or train again"):
        refuse_broken(weights, "x.pt")


@pytest.mark.parametrize("n_values", [50, 300, 3_000, 100_000])
def test_a_disk_that_fills_at_any_part_of_a_file_of_tensors_is_said(n_values, tmp_path):
    content = {f"G{i}": torch.ones(n_values) for i in range(10)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    try:
        with pytest.raises(StateshiftError, match="no room is left"), written_beside(tmp_path / "x.pt") as part:
            torch.save(content, part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["[1]", "null", '"x"', "", "{", "[" * 100_000, '{"a":' * 100_000, "\0", "{}{}"])
def test_json_that_is_no_object_is_a_sentence_however_deep_it_goes(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(StateshiftError, match=r"x\.json is damaged: .*\. Make it anew\.") as told:
        read_json(tmp_path / "x.json", "Make it anew.")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("array", [np.array([b"A"]), np.ones(1), np.array(["A"], dtype=object), np.zeros(1, "V4")])
def test_names_that_are_no_text_and_arrays_of_objects_are_refused(array, tmp_path):
    np.savez(tmp_path / "x.npz", genes=array, values=np.ones(1))
    with pytest.raises(StateshiftError, match=r"x\.npz is damaged: .* Make it anew\."):
        read_arrays(tmp_path / "x.npz", ("genes",), "Make it anew.")
    np.savez(tmp_path / "x.npz", genes=np.array(["A"]), values=np.array([1j]))
    with pytest.raises(StateshiftError, match="its `values` holds complex128"):
        read_arrays(tmp_path / "x.npz", ("genes",), "")


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "x.json", "") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\nG1,1,2\nG2,3,4\n", "its lines have more fields than its header"),
        ("a,b\nG1,1,\n", "its lines have more fields than its header"),
        ("a,b\nG1,1\nG2,3,4\n", "can't be read as a table"),
        ("", "can't be read as a table"),
        ("a\n\xe9\n".encode("latin-1"), "can't be read as a table"),
    ],
)
def test_a_table_whose_lines_do_not_fit_its_header_is_refused(text, said, tmp_path):
    (tmp_path / "x.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StateshiftError, match=rf"x\.csv:? {said}"):
        read_csv(tmp_path / "x.csv")


def test_a_table_with_a_byte_order_mark_and_windows_lines_is_read(tmp_path):
    (tmp_path / "x.csv").write_bytes("\ufeffa,b\r\nG1,1\r\n".encode())
    assert read_csv(tmp_path / "x.csv").to_dict("list") == {"a": ["G1"], "b": [1]}

import io
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from stateshift.errors import StateshiftError
from stateshift.transition.arc.files import read_pickled


class Hostile:
    """Makes a file where it is unpickled carelessly."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_the_trap_is_a_trap(tmp_path):
    pickle.loads(pickle.dumps(Hostile(tmp_path / "made")))
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["var_dims.pkl", "pert_onehot_map.pt", "final.ckpt", "legacy.ckpt"])
def test_a_hostile_pickle_is_refused_without_being_executed(tmp_path, name):
    path, made = tmp_path / name, tmp_path / "made"
    content = {"state_dict": {}, "hyper_parameters": {"loss_fn": Hostile(made)}}
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=path.stem != "legacy")
    with pytest.raises(StateshiftError, match=rf"{name} asks for \S+\.open to be called as it is read"):
        read_pickled(path)
    assert not made.exists()


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("module", ["os", "posix", "builtins", "subprocess", "numpy", "torch", "runpy"])
def test_functions_of_no_module_are_called(tmp_path, module, protocol):
    name = {"os": "system", "posix": "system", "builtins": "eval", "subprocess": "Popen", "numpy": "load"}
    text = {2: b"\x80\x02", 4: b"\x80\x04"}[protocol]
    text += f"c{module}\n{name.get(module, 'load')}\n".encode() + b"X\x01\x00\x00\x00a\x85R."
    path = tmp_path / "var_dims.pkl"
    path.write_bytes(text)
    with pytest.raises(StateshiftError, match=f"asks for {module}"):
        read_pickled(path)


@pytest.mark.parametrize("name", ["content.pkl", "content.pt"])
def test_what_checkpoints_hold_is_read(tmp_path, name):
    content = {
        "names": [np.str_("G1"), "G2"], np.str_("key"): np.float32(1.5), "width": np.int64(3), "flag": np.bool_(True),
        "array": np.arange(6, dtype=np.int32).reshape(2, 3), "objects": np.array(["a", "b"], dtype=object),
        "strings": np.array(["G1", "G2"]), "ordered": OrderedDict(a=1),
        "config": OmegaConf.create({"kwargs": {"widths": [1, 2], "dropout": 0.1, "name": "state", "on": True}}),
    }  # fmt: skip
    path = tmp_path / name
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content | {"tensor": torch.eye(2)}, path)
    read = read_pickled(path)
    assert read["names"] == ["G1", "G2"]
    assert (read["key"], read["width"], read["flag"]) == (1.5, 3, True)
    np.testing.assert_array_equal(read["array"], content["array"])
    assert read["objects"].tolist() == ["a", "b"]
    assert read["strings"].tolist() == ["G1", "G2"]
    assert OmegaConf.to_container(read["config"]) == OmegaConf.to_container(content["config"])
    if "tensor" in read:
        torch.testing.assert_close(read["tensor"], torch.eye(2))


@pytest.mark.parametrize("name", ["final.ckpt", "var_dims.pkl"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_file_cut_short_is_one_sentence(tmp_path, name, share):
    path, whole = tmp_path / name, io.BytesIO()
    content = {"state_dict": {"a": list(range(500))}}
    (torch.save if name.endswith("ckpt") else pickle.dump)(content, whole)
    path.write_bytes(whole.getvalue()[: int(share * whole.tell())])
    with pytest.raises(StateshiftError, match=f"{name} is cut short, damaged, or no file of arc-state") as refused:
        read_pickled(path)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StateshiftError, match="final.ckpt: there is no such file"):
        read_pickled(tmp_path / "final.ckpt")

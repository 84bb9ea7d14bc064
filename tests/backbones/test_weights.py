import ctypes
import gc
import json
import resource
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.pretrained import wan_folder, wvm_on_wan
from tests.small import small_config
from torch import nn

from worldvalue.backbones.weights import fill, unfilled, weight_files
from worldvalue.models import Estimator, going_on, load_model, on_pretrained
from worldvalue.types import DataError


def layers() -> nn.Module:
    """A linear layer, a norm, and a buffer that is stored."""
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.BatchNorm1d(4))
    torch.nn.init.normal_(module[1].weight)
    return module


def stored(folder: Path, tensors: dict[str, torch.Tensor]) -> list[Path]:
    save_file(tensors, folder / "some.safetensors")
    return [folder / "some.safetensors"]


def test_an_unfilled_module_takes_the_stored_weights_and_nothing_stays_without_memory(tmp_path: Path) -> None:
    torch.manual_seed(0)
    files = stored(tmp_path, {name: tensor.clone() for name, tensor in layers().state_dict().items()})
    with unfilled():
        module = layers()
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
    module[0].requires_grad_(False)
    fill(module, files)
    for name, tensor in load_file(files[0]).items():
        assert torch.equal(module.state_dict()[name], tensor), name
    assert not module[0].weight.requires_grad
    assert module[1].weight.requires_grad


def test_only_layers_that_autocast_casts_take_another_type(tmp_path: Path) -> None:
    module = layers()
    fill(module, stored(tmp_path, module.state_dict()), dtype=torch.bfloat16)
    types = {name: tensor.dtype for name, tensor in module.state_dict().items()}
    assert types.pop("0.weight") == types.pop("0.bias") == torch.bfloat16
    assert types.pop("2.num_batches_tracked") == torch.int64
    assert set(types.values()) == {torch.float32}


def test_a_part_alone_is_filled_and_the_rest_stays(tmp_path: Path) -> None:
    module, other = layers(), layers()
    kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    fill(module, stored(tmp_path, {name: tensor + 1 for name, tensor in other.state_dict().items()}), parts=("1.",))
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name] + 1 if name.startswith("1.") else kept[name]), name


def test_weights_that_are_one_stay_one(tmp_path: Path) -> None:
    made = Estimator(small_config())
    made.save(tmp_path)
    with unfilled():
        estimator = Estimator(small_config())
    fill(estimator, [tmp_path / "model.safetensors"])
    assert len(list(estimator.parameters())) == len(list(made.parameters()))
    encoder = estimator.model.text.encoder
    assert encoder.shared.weight is encoder.encoder.embed_tokens.weight


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda told: told.pop("1.weight"), "some.safetensors lacks the weight '1.weight'; do this"),
        (
            lambda told: told.update({"0.bias": torch.zeros(5)}),
            r"some.safetensors has '0.bias' of shape \(5,\), \(4,\) is needed; do this",
        ),
        (lambda told: told.update({"3.bias": torch.zeros(5)}), "some.safetensors holds '3.bias', for which"),
    ],
)
def test_files_that_do_not_fit_get_a_sentence_with_file_and_weight(tmp_path: Path, change, sentence: str) -> None:
    told = layers().state_dict()
    change(told)
    with pytest.raises(DataError, match=sentence):
        fill(layers(), stored(tmp_path, told), remedy="do this")


def test_a_damaged_file_and_a_folder_without_weights_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no some\.safetensors"):
        weight_files(tmp_path, "some")
    (tmp_path / "some.safetensors").write_bytes(b"cut off")
    assert weight_files(tmp_path, "some") == [tmp_path / "some.safetensors"]
    with pytest.raises(DataError, match=r"some.safetensors cannot be read as safetensors .*; copy the folder again"):
        fill(layers(), weight_files(tmp_path, "some"))


def test_an_index_says_which_files_there_are(tmp_path: Path) -> None:
    index = tmp_path / "some.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "1.safetensors"}}))
    (tmp_path / "1.safetensors").touch()
    with pytest.raises(DataError, match=r"has no 2.safetensors, which some.safetensors.index.json names"):
        weight_files(tmp_path, "some")
    (tmp_path / "2.safetensors").touch()
    assert [path.name for path in weight_files(tmp_path, "some")] == ["1.safetensors", "2.safetensors"]
    index.write_text("{}")
    with pytest.raises(DataError, match="does not say where the weights are"):
        weight_files(tmp_path, "some")


def peak(load: Callable[[], nn.Module], warm: Callable[[], nn.Module]) -> float:
    """Peak of memory during a load in a process of its own, in sizes of the weights that it ends with.

    Another load goes before, so that the code that loading runs is in memory already.
    """

    def measure(told: Connection) -> None:
        warm()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        state = load().state_dict().values()
        total = sum(float(tensor.sum()) for tensor in state)  # reads every page
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert total != 0.0
        told.send(grown * 1024 / sum(tensor.numel() * tensor.element_size() for tensor in state))

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # a load into what earlier tests have left free would not show
    ours, theirs = Pipe()
    process = get_context("fork").Process(target=measure, args=(theirs,))
    process.start()
    process.join()
    assert process.exitcode == 0
    return ours.recv()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_no_load_has_the_weights_twice_in_memory(tmp_path: Path) -> None:
    """A checkpoint's file, half as large as its weights in float32, counts as memory while it is read."""
    config, on_wan, large = small_config(), wvm_on_wan(), 150_000
    Estimator(config).save(tmp_path / "small")
    wide = replace(config, model=replace(config.model, video={**config.model.video, "ffn_dim": large}))
    ours, wan = tmp_path / "ours", wan_folder(tmp_path / "wan", {"ffn_dim": large}, shard="10MB")
    Estimator(wide).save(ours)
    loads = (
        lambda: load_model(ours),
        lambda: load_model(ours, torch.bfloat16),
        lambda: going_on(ours, wide),
        lambda: on_pretrained(ours, replace(wide, model=replace(wide.model, head="scalar"))),
        lambda: on_pretrained(wan, on_wan),
    )
    peaks = [peak(load, warm=lambda: load_model(tmp_path / "small")) for load in loads]
    assert all(0.8 < times < 1.75 for times in peaks), peaks

import gc
import weakref
from pathlib import Path

import pytest
import torch
from diffusers import LTXPipeline, WanPipeline
from tests.pretrained import ltx_folder, wan_folder
from transformers import AutoTokenizer, T5EncoderModel, UMT5EncoderModel

from worldvalue.backbones.text import TextEncoder
from worldvalue.data.files import user_cache
from worldvalue.models.text_states import TextStates
from worldvalue.types import DataError

LENGTH = 24
INSTRUCTIONS = ["lift the cube", "put the red can into the bin"]


def remove_weights(folder: Path) -> None:
    """Leave of a text encoder only what it is called and shaped."""
    for path in (folder / "text_encoder").glob("*.safetensors"):
        path.unlink()


def states(folder: Path, instructions: list[str] = INSTRUCTIONS, length: int = LENGTH) -> torch.Tensor:
    made = TextStates(str(folder), length)
    made.make(instructions, "cpu")
    return made.stacked(instructions, torch.float32)


def files() -> list[Path]:
    """All states in the cache."""
    return sorted((user_cache() / "text").rglob("*.safetensors"))


def pipeline_parts(folder: Path, kind: type) -> dict:
    """A diffusers pipeline's text encoder and tokenizer, and nothing in its other places."""
    encoder = kind.from_pretrained(folder / "text_encoder", dtype=torch.bfloat16)
    nothing = dict.fromkeys(("vae", "transformer", "scheduler"))
    return {**nothing, "text_encoder": encoder, "tokenizer": AutoTokenizer.from_pretrained(folder / "tokenizer")}


@torch.no_grad()
def test_states_are_those_that_wans_pipeline_gives_its_transformer(tmp_path: Path) -> None:
    pipeline = WanPipeline(**pipeline_parts(wan_folder(tmp_path), UMT5EncoderModel))
    expected, _ = pipeline.encode_prompt(INSTRUCTIONS, do_classifier_free_guidance=False, max_sequence_length=LENGTH)
    torch.testing.assert_close(states(tmp_path), expected.float(), atol=0.02, rtol=0.02)


@torch.no_grad()
def test_words_are_those_that_ltx_videos_pipeline_gives_its_transformer_and_the_rest_is_zero(tmp_path: Path) -> None:
    """Its mask hides the padding from the transformer; T5 itself has seen it."""
    pipeline = LTXPipeline(**pipeline_parts(ltx_folder(tmp_path), T5EncoderModel))
    expected, mask, *_ = pipeline.encode_prompt(
        INSTRUCTIONS, do_classifier_free_guidance=False, max_sequence_length=LENGTH
    )
    found = states(tmp_path)
    assert torch.equal(found.any(-1), mask.bool())
    torch.testing.assert_close(found[mask.bool()], expected.float()[mask.bool()], atol=0.02, rtol=0.02)
    how = {"padding": "max_length", "max_length": LENGTH, "truncation": True}
    tokens = pipeline.tokenizer(INSTRUCTIONS, **how, return_tensors="pt")
    hidden = pipeline.text_encoder(**tokens)[0]
    assert not torch.allclose(hidden[mask.bool()].float(), found[mask.bool()], atol=0.02)


def test_an_instruction_is_read_once_and_never_again_not_even_without_the_weights(tmp_path: Path) -> None:
    first = states(wan_folder(tmp_path))
    assert len(files()) == 2
    times = [path.stat().st_mtime_ns for path in files()]
    remove_weights(tmp_path)
    assert torch.equal(states(tmp_path), first)
    assert [path.stat().st_mtime_ns for path in files()] == times
    with pytest.raises(DataError, match=r"text_encoder cannot be read .*; copy the folder again"):
        states(tmp_path, ["an instruction that nobody has given before"])


def test_an_instructions_states_do_not_depend_on_what_else_is_asked_for(tmp_path: Path) -> None:
    alone = states(wan_folder(tmp_path), INSTRUCTIONS[:1])
    files()[0].unlink()
    assert torch.equal(states(tmp_path)[:1], alone)


def test_encoders_and_lengths_do_not_take_each_others_states(tmp_path: Path) -> None:
    first, second = wan_folder(tmp_path / "a"), wan_folder(tmp_path / "b")
    encoder = UMT5EncoderModel.from_pretrained(second / "text_encoder")
    torch.nn.init.normal_(encoder.shared.weight)
    encoder.save_pretrained(second / "text_encoder")
    assert not torch.allclose(states(first), states(second))
    assert states(first, length=30).shape == (2, 30, 16)
    assert len(files()) == 6
    remove_weights(first)
    with pytest.raises(DataError, match="holds no weights, and those of several such encoders are in"):
        states(first)


def test_a_copy_of_the_encoder_elsewhere_finds_what_the_original_has_read(tmp_path: Path) -> None:
    states(wan_folder(tmp_path / "a"))
    copy = wan_folder(tmp_path / "b")
    remove_weights(copy)
    states(copy)
    assert len(files()) == 2


def test_an_encoder_without_weights_and_states_gets_a_sentence(tmp_path: Path) -> None:
    remove_weights(wan_folder(tmp_path))
    with pytest.raises(
        DataError, match=r"text_encoder holds no weights, and no states of it are in .*; copy the weights"
    ):
        TextStates(str(tmp_path), LENGTH)


def test_sharded_weights_make_the_same_states_as_one_file(tmp_path: Path) -> None:
    whole, sharded = wan_folder(tmp_path / "a"), wan_folder(tmp_path / "b", shard="10KB")
    assert len(list((sharded / "text_encoder").glob("*.safetensors"))) > 1
    assert torch.equal(states(whole), states(sharded))


def test_the_encoder_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    load = TextEncoder.from_pretrained
    monkeypatch.setattr(
        TextEncoder, "from_pretrained", lambda *how: made.append(weakref.ref(kept := load(*how))) or kept
    )
    states(wan_folder(tmp_path))
    gc.collect()
    assert [encoder() for encoder in made] == [None]

import json
from pathlib import Path

import pytest
import torch
from tests.pretrained import TEXT as CONFIG
from transformers import ByT5Tokenizer, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from worldvalue.backbones.text import TextEncoder
from worldvalue.types import DataError


@torch.no_grad()
def test_an_instruction_is_encoded_alike_alone_and_among_others() -> None:
    encoder = TextEncoder(CONFIG, max_length=32).eval()
    tokens = encoder.tokenize(["lift the cube", "place the milk in the bin", "lift the cube"])
    states = encoder(tokens)
    assert states.shape == (3, 32, 16)
    assert torch.equal(states[0], states[2])
    torch.testing.assert_close(encoder(tokens[:1])[0], states[0])


@torch.no_grad()
def test_padding_gives_zero_states() -> None:
    encoder = TextEncoder(CONFIG, max_length=32).eval()
    states = encoder(encoder.tokenize(["lift"]))[0]
    assert (states[:5] != 0).any(dim=1).all()  # four bytes and the end mark
    assert (states[5:] == 0).all()


@torch.no_grad()
def test_pooled_states_are_means_of_neighbours() -> None:
    torch.manual_seed(0)
    plain = TextEncoder(CONFIG, max_length=32).eval()
    pooled = TextEncoder(CONFIG, max_length=32, pool=4).eval()
    pooled.load_state_dict(plain.state_dict())
    tokens = plain.tokenize(["stack the red cube on the green one"])
    torch.testing.assert_close(pooled(tokens)[0, 1], plain(tokens)[0, 4:8].mean(0))


@torch.no_grad()
def test_a_folder_that_transformers_wrote_is_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = UMT5EncoderModel(UMT5Config(**CONFIG)).eval()
    theirs.save_pretrained(tmp_path / "text_encoder")
    ByT5Tokenizer().save_pretrained(tmp_path / "tokenizer")
    ours = TextEncoder.from_pretrained(tmp_path, max_length=24, dtype=torch.float32).eval()
    tokens = ours.tokenize(["push the button"])
    expected = theirs(input_ids=tokens, attention_mask=(tokens != 0).long()).last_hidden_state
    torch.testing.assert_close(ours(tokens), expected * (tokens != 0).unsqueeze(-1))


def test_a_tokenizer_that_is_a_sentencepiece_model_and_nothing_else_is_read(tmp_path: Path) -> None:
    """As that of LTX-Video."""
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    T5EncoderModel(T5Config(**CONFIG)).save_pretrained(tmp_path / "text_encoder")
    (tmp_path / "tokenizer").mkdir()
    words = tmp_path / "words.txt"
    words.write_text("push the button\nlift the cube\nopen the drawer\n" * 50)
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    SentencePieceTrainer.train(
        input=str(words), model_prefix=str(tmp_path / "tokenizer" / "spiece"), vocab_size=22, minloglevel=2, **ids
    )
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 0}')
    encoder = TextEncoder.from_pretrained(tmp_path, max_length=24, dtype=torch.float32)
    theirs = SentencePieceProcessor(model_file=str(tmp_path / "tokenizer" / "spiece.model")).encode("lift the button")
    assert encoder.tokenize(["lift the button"])[0].tolist() == [*theirs, 1, *[0] * (23 - len(theirs))]


def test_a_folder_without_a_text_encoder_or_with_another_one_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no usable text encoder"):
        TextEncoder.from_pretrained(tmp_path, max_length=24, dtype=torch.float32)
    ByT5Tokenizer().save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match="text_encoder is a bert; give a model with one of: umt5, t5"):
        TextEncoder.from_pretrained(tmp_path, max_length=24, dtype=torch.float32)


def test_a_text_encoder_that_lacks_a_weight_or_has_another_shape_gets_a_sentence(tmp_path: Path) -> None:
    UMT5EncoderModel(UMT5Config(**CONFIG)).save_pretrained(tmp_path / "text_encoder")
    ByT5Tokenizer().save_pretrained(tmp_path / "tokenizer")
    told = tmp_path / "text_encoder" / "config.json"
    right = json.loads(told.read_text())
    for wrong, sentence in (
        ({"num_layers": 2}, r"text_encoder lacks the weight 'encoder.block.1"),
        ({"d_ff": 33}, r"text_encoder has 'encoder.*' of shape \(32, 16\), \(33, 16\) is needed"),
    ):
        told.write_text(json.dumps({**right, **wrong}))
        with pytest.raises(DataError, match=sentence):
            TextEncoder.from_pretrained(tmp_path, max_length=24, dtype=torch.float32)

from pathlib import Path

import torch
from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

from worldvalue.backbones.text import TextEncoder

CONFIG = {"vocab_size": 384, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}


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

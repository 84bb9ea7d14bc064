import json
from pathlib import Path

import pytest
import torch
from tests.pretrained import VISION, siglip_folder
from transformers import SiglipModel, SiglipVisionConfig, SiglipVisionModel

from worldvalue.backbones.vision import VisionEncoder
from worldvalue.types import DataError


@torch.no_grad()
def test_the_vision_tower_of_a_siglip_that_transformers_wrote_gives_what_it_gives_there(tmp_path: Path) -> None:
    theirs = SiglipModel.from_pretrained(siglip_folder(tmp_path)).eval()
    ours = VisionEncoder.from_pretrained(tmp_path).eval()
    assert {name: ours.config[name] for name in VISION} == VISION
    pictures = torch.rand(2, 3, 3, 48, 48) * 2 - 1
    expected = theirs.vision_model(pixel_values=pictures.flatten(0, 1)).last_hidden_state
    torch.testing.assert_close(ours(pictures), expected.reshape(2, 3, 9, 24))


def test_a_vision_tower_alone_is_read_and_its_shape_makes_another_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    SiglipVisionModel(SiglipVisionConfig(**VISION)).save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = VisionEncoder.from_pretrained(tmp_path)
    other = VisionEncoder(ours.config)
    other.load_state_dict(ours.state_dict())
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}


def test_what_is_no_siglip_for_pictures_of_one_size_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no SigLIP"):
        VisionEncoder.from_pretrained(tmp_path)
    told = siglip_folder(tmp_path) / "config.json"
    told.write_text(json.dumps({**json.loads(told.read_text()), "model_type": "siglip2"}))
    with pytest.raises(
        DataError, match=r"is a siglip2, no SigLIP2 for pictures of one size; .*siglip2-base-patch16-224"
    ):
        VisionEncoder.from_pretrained(tmp_path)

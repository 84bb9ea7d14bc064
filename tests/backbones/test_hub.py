import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.small import write_painted_videos

from worldvalue.backbones.hub import pretrained_folder
from worldvalue.cli import main
from worldvalue.types import DataError, Labels

ID = "somebody/some-model"


def test_a_folder_stands_for_itself(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    assert pretrained_folder(tmp_path, ("vae",)) == tmp_path


def test_an_id_is_found_in_the_hubs_cache_without_a_network(hub: Callable[[str], Path]) -> None:
    folder = hub(ID)
    (folder / "vae").mkdir()
    assert pretrained_folder(ID, ("vae",)) == folder


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (ID, "somebody/some-model is no folder here and not in the Hugging Face hub's cache, .*; connect, or fetch it"),
        ("nowhere", "nowhere is neither a folder nor an id on the Hugging Face hub"),
        ("runs/deep/model", "neither a folder nor an id"),
        ("-odd/name", "the Hugging Face hub does not give it"),
    ],
)
def test_what_is_neither_here_nor_there_gets_a_sentence(hub: Callable[[str], Path], name: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as told:
        pretrained_folder(name)
    assert "\n" not in str(told.value)


def test_a_model_without_a_part_gets_a_sentence(hub: Callable[[str], Path]) -> None:
    hub(ID)
    with pytest.raises(DataError, match="some-model has no folder 'vae'; give a model in diffusers layout"):
        pretrained_folder(ID, ("vae",))


def test_the_command_line_says_it_in_one_sentence_and_ends_with_code_2(
    hub: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    data = write_painted_videos(tmp_path / "data", [Labels(20, mode="expert")])
    words = ["train", "wvm", "--recipe", "wan22_5b", "--pretrained", ID, "--data", str(data)]
    monkeypatch.setattr(sys, "argv", ["worldvalue", *words, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"worldvalue: {ID} is no folder here")
    assert not (tmp_path / "out").exists()

from pathlib import Path

import numpy as np
import torch
from tests.small import PIXELS, painted_episode

from worldvalue.data.pictures import PictureSettings
from worldvalue.training.episodes import FrameDataset, Pictures, stored_pictures


def test_an_object_weighs_more_than_the_background_even_where_it_never_moves() -> None:
    frames = np.full((20, 8, 8, 3), 200, dtype=np.uint8)
    frames[:10, 2, 3] = frames[10:, 5, 6] = 50  # two episodes of one scene, the object at rest in another place
    dataset = FrameDataset(frames, scene=np.zeros(20, dtype=np.int64), seed=0)
    sample = dataset[0]
    (shown,) = zip(*np.nonzero(sample["frames"][0].numpy() < 0), strict=True)
    assert sample["weight"][(0, *shown)] == sample["weight"].max()
    np.testing.assert_allclose(sample["weight"][(0, *shown)], 1 + FrameDataset.EMPHASIS * 75 / 127.5, rtol=1e-6)
    assert sample["weight"][0, 0, 0] == 1.0


def test_a_sample_depends_on_its_number_alone() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
    scene = np.arange(12) % 3
    one, other = (FrameDataset(frames, scene, seed=1) for _ in range(2))
    _ = one[3]
    assert all((one[7][name] == other[7][name]).all() for name in ("frames", "weight"))


def test_pictures_are_decoded_once_and_then_read_from_disk(tmp_path: Path) -> None:
    shown = Pictures(painted_episode(40), PictureSettings(PIXELS, PIXELS))
    stored = stored_pictures(tmp_path, shown)
    wanted = np.array([39, 0, 0, 17])
    assert torch.equal(stored.read(wanted), shown.read(wanted))
    written = stored.path.stat().st_mtime_ns
    assert stored_pictures(tmp_path, shown) == stored
    assert stored.path.stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == ["pictures_000000.npy"]

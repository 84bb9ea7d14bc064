import numpy as np

from worldvalue.training.episodes import FrameDataset


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

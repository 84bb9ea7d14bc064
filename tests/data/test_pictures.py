import numpy as np
import pytest
from tests.small import PaintedFrames, painted_episode

from worldvalue.data.pictures import PIECE, PictureSettings, pictures
from worldvalue.types import DataError, Episode


class _Plain:
    """Each camera shows one grey level."""

    def read(self, camera: str, indices: object) -> np.ndarray:
        level = {"left": 10, "right": 200, "top": 90}[camera]
        return np.full((len(indices), 48, 64, 3), level, dtype=np.uint8)


def _episode() -> Episode:
    return Episode(**{**painted_episode(5).__dict__, "cameras": ("left", "right", "top"), "reader": _Plain()})


def test_one_camera_fills_the_picture_and_is_the_first_by_default() -> None:
    shown = pictures(_episode(), np.array([0, 3]), PictureSettings(32, 40))
    assert shown.shape == (2, 1, 32, 40, 3)
    assert (shown == 10).all()
    assert (pictures(_episode(), np.array([0]), PictureSettings(32, 40, cameras=("top",))) == 90).all()


def test_cameras_are_tiled_row_by_row() -> None:
    settings = PictureSettings(32, 64, rows=1, columns=2, cameras=("right", "left"))
    shown = pictures(_episode(), np.array([0]), settings)[0, 0]
    assert (shown[:, :32] == 200).all()
    assert (shown[:, 32:] == 10).all()
    shown = pictures(_episode(), np.array([0]), PictureSettings(64, 32, rows=2, columns=1))[0, 0]
    assert (shown[:32] == 10).all()
    assert (shown[32:] == 200).all()


def test_several_pictures_of_a_frame_are_cameras_apart_each_with_its_grid() -> None:
    shown = pictures(_episode(), np.array([0, 1]), PictureSettings(32, 40, views=3))
    assert [np.unique(view).tolist() for view in shown[1]] == [[10], [200], [90]]
    cameras = ("left", "right", "top", "left")
    shown = pictures(_episode(), np.array([0]), PictureSettings(32, 64, columns=2, cameras=cameras, views=2))[0]
    assert [view[0, 0, 0] for view in shown] == [10, 90]
    assert [view[0, -1, 0] for view in shown] == [200, 10]


def test_the_wrong_number_of_cameras_is_refused_with_those_there_are() -> None:
    with pytest.raises(DataError, match="left, right, top"):
        pictures(_episode(), np.array([0]), PictureSettings(32, 64, columns=2, cameras=("left",)))
    with pytest.raises(DataError, match="no camera 'back'"):
        pictures(_episode(), np.array([0]), PictureSettings(32, 32, cameras=("back",)))


def test_long_episodes_are_read_in_pieces_and_give_the_same_pictures() -> None:
    length = 2 * PIECE + 3
    asked: list[int] = []

    class Counted(PaintedFrames):
        def read(self, camera: str, indices: object) -> np.ndarray:
            asked.append(len(indices))
            return super().read(camera, indices)

    episode = Episode(**{**painted_episode(length).__dict__, "reader": Counted(length)})
    shown = pictures(episode, np.arange(length), PictureSettings(32, 40))
    assert asked == [PIECE, PIECE, 3]
    alone = pictures(episode, np.array([PIECE]), PictureSettings(32, 40))
    np.testing.assert_array_equal(shown[PIECE : PIECE + 1], alone)


def test_frames_of_the_right_size_are_left_alone() -> None:
    episode = painted_episode(5)
    frames = episode.frames([2])
    np.testing.assert_array_equal(pictures(episode, np.array([2]), PictureSettings(64, 64))[:, 0], frames)

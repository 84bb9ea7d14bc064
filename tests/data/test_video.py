from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldvalue.data.video import VIDEO_SUFFIXES, VideoClip, VideoJoiner, encode_video, frame_times
from worldvalue.types import DataError

CODINGS = {
    "as we write": ("libx264", {"g": "10", "bf": "0"}),
    "B-frames and rare keyframes": ("libx264", {"g": "250", "bf": "3", "b-adapt": "0"}),
    "B-frames and frequent keyframes": ("libx264", {"g": "4", "bf": "2"}),
    "AV1": ("libsvtav1", {"g": "6", "preset": "12", "svtav1-params": "lp=1"}),
}


def write_clip(path: Path, frames: np.ndarray, codec: str, options: dict[str, str], fps: int = 10) -> Path:
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def decode_all(path: Path) -> np.ndarray:
    """Every frame in order, by the shortest way through PyAV."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(scope="module", params=CODINGS)
def coded(request, tmp_path_factory, moving_square):
    path = tmp_path_factory.mktemp("coded") / "clip.mp4"
    write_clip(path, moving_square(70, 80), *CODINGS[request.param])
    return path, decode_all(path)


def test_what_is_encoded_comes_back(tmp_path, moving_square):
    frames = moving_square(23, 120)
    encode_video(tmp_path / "clip.mp4", frames, fps=7.5)
    times = frame_times(tmp_path / "clip.mp4")
    np.testing.assert_allclose(times, np.arange(23) / 7.5, atol=1e-9)
    back = VideoClip(tmp_path / "clip.mp4", times, tolerance=1e-6).read(np.arange(23))
    assert np.abs(back.astype(int) - frames).mean() < 3
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.codec.canonical_name, stream.pix_fmt) == ("h264", "yuv420p")
        keyframes = [i for i, packet in enumerate(container.demux(stream)) if packet.is_keyframe]
    assert keyframes == [0, 10, 20]


def test_the_same_frames_give_the_same_bytes(tmp_path, moving_square):
    for name in ("a.mp4", "b.mp4"):
        encode_video(tmp_path / name, moving_square(12), fps=10)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_failed_encoding_leaves_nothing(tmp_path, moving_square):
    def broken():
        yield from moving_square(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_video(tmp_path / "clip.mp4", broken(), fps=10)
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None, max_examples=25)
@given(indices=st.lists(st.integers(0, 69), max_size=12))
def test_any_frames_in_any_order_equal_those_of_a_full_decode(coded, indices):
    path, every = coded
    clip = VideoClip(path, frame_times(path), tolerance=0.05)
    np.testing.assert_array_equal(clip.read(np.array(indices, dtype=np.int64)), every[indices])


def test_an_episode_inside_a_longer_video_is_found_by_its_start(coded):
    path, every = coded
    clip = VideoClip(path, 2.3 + np.arange(30) / 10, tolerance=0.05)
    np.testing.assert_array_equal(clip.read(np.array([29, 0, 7])), every[[52, 23, 30]])


@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS)
def test_joined_clips_decode_to_the_frames_of_the_single_ones(tmp_path, moving_square, coding):
    lengths = (9, 1, 14, 2)
    clips = [
        write_clip(tmp_path / f"{n}.mp4", moving_square(length, 40 * n), *coding) for n, length in enumerate(lengths)
    ]
    joiner = VideoJoiner(tmp_path / "all.mp4", clips[0])
    start = Fraction(0)
    for clip, length in zip(clips, lengths, strict=True):
        assert joiner.append(clip, start) == length
        start += Fraction(length, 10)
    joiner.close()
    np.testing.assert_allclose(frame_times(tmp_path / "all.mp4"), np.arange(sum(lengths)) / 10, atol=1e-9)
    expected = np.concatenate([decode_all(clip) for clip in clips])
    np.testing.assert_array_equal(decode_all(tmp_path / "all.mp4"), expected)


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES))
def test_every_container_is_read_by_time(tmp_path, moving_square, suffix):
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    options = {} if suffix == ".webm" else {"bf": "0" if suffix == ".avi" else "2"}  # AVI cannot time B-frames
    path = write_clip(tmp_path / f"clip{suffix}", moving_square(25), codec, options)
    times = frame_times(path)
    np.testing.assert_allclose(times - times[0], np.arange(25) / 10, atol=1e-3)
    read = VideoClip(path, times, tolerance=0.05).read(np.array([24, 3, 11]))
    np.testing.assert_array_equal(read, decode_all(path)[[24, 3, 11]])


def test_a_clip_of_another_size_is_not_joined(tmp_path, moving_square):
    encode_video(tmp_path / "a.mp4", moving_square(5), fps=10)
    encode_video(tmp_path / "b.mp4", moving_square(5)[:, :32], fps=10)
    joiner = VideoJoiner(tmp_path / "all.mp4", tmp_path / "a.mp4")
    assert joiner.accepts(tmp_path / "a.mp4")
    assert not joiner.accepts(tmp_path / "b.mp4")
    joiner.append(tmp_path / "a.mp4", Fraction(0))
    joiner.close()


def test_a_video_that_ends_before_the_episode_is_refused_whatever_is_asked(coded):
    path, _ = coded
    clip = VideoClip(path, np.arange(71) / 10, tolerance=0.05)
    with pytest.raises(DataError, match=r"fewer frames than the episode's 71 rows"):
        clip.read(np.array([0]))


def test_a_hole_in_a_video_is_named(tmp_path, moving_square):
    encode_video(tmp_path / "clip.mp4", moving_square(10), fps=1)
    clip = VideoClip(tmp_path / "clip.mp4", np.arange(0, 9, 0.5), tolerance=0.1)
    with pytest.raises(DataError, match=r"it has none at 0\.500 s"):
        clip.read(np.array([0, 1]))


def test_a_frame_outside_the_episode_is_an_index_error(coded):
    path, _ = coded
    clip = VideoClip(path, np.arange(70) / 10, tolerance=0.05)
    for index in (-1, 70):
        with pytest.raises(IndexError):
            clip.read(np.array([index]))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is missing"), (b"", "is an empty file"), (b"not a video" * 99, "damaged or cut off")],
)
def test_what_is_no_video_is_said_so(tmp_path, content, message):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        frame_times(path)


def test_a_video_cut_off_in_the_middle_is_refused(tmp_path, moving_square):
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), dtype=np.uint8)
    path = write_clip(tmp_path / "clip.mp4", noise, "libx264", {"g": "10"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="cut off"):
        frame_times(path)
    with pytest.raises(DataError, match=r"cut off|fewer frames"):
        VideoClip(path, np.arange(40) / 10, tolerance=0.05).read(np.array([39]))


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 48000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match="no video stream"):
        frame_times(path)

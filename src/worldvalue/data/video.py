"""Video files: encode frames, read frames by their time, join clips without re-encoding (PyAV).

Frames are uint8 RGB ``(T, H, W, 3)``; times are seconds as the container counts them. Reading seeks to the
keyframe before a wanted frame and decodes forward, so that memory holds the wanted frames and nothing more,
however long the file is; it relies on presentation times, never on counting frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from worldvalue.data.files import replacing
from worldvalue.types import DataError

X264_OPTIONS = {"crf": "18", "g": "10", "bf": "0", "mbtree": "0"}
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm"})


def encode_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float) -> None:
    """Write frames ``(H, W, 3)`` (even H and W) as H.264 yuv420p, a keyframe every 10 frames, CRF 18.

    No B-frames, so that clips can be joined packet by packet. The same frames give the same bytes: one thread, whatever
    the number of cores, and no macroblock tree, with which x264 varies from run to run on small pictures.
    """
    rate = exact_rate(fps)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{path}: there are no frames to encode.")
    with replacing(path) as partial, av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options=X264_OPTIONS)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for number, picture in enumerate(chain([first], frames)):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def exact_rate(fps: float) -> Fraction:
    """The frame rate as a fraction that containers can hold (29.97 becomes 2997/100)."""
    return Fraction(fps).limit_denominator(1001)


@dataclass(frozen=True)
class VideoProperties:
    """What a video says about itself.

    Attributes:
        height, width: pixels.
        fps: mean frame rate; 0 when the container does not know.
        codec: FFmpeg's name of the coding format, such as ``h264`` or ``av1``.
        pixel_format: such as ``yuv420p``.
    """

    height: int
    width: int
    fps: float
    codec: str
    pixel_format: str


def video_properties(path: Path) -> VideoProperties:
    """Read a video's header; nothing is decoded."""
    with _open_video(path) as (_, stream):
        context = stream.codec_context
        return VideoProperties(
            height=context.height,
            width=context.width,
            fps=float(stream.average_rate or 0),
            codec=context.codec.canonical_name,
            pixel_format=context.pix_fmt or "",
        )


def frame_times(path: Path) -> NDArray[np.float64]:
    """Presentation time ``(T,)`` of every frame, rising; read from the packets, nothing is decoded.

    Raises:
        DataError: the video is missing, damaged, empty or cut off.
    """
    with _open_video(path) as (container, stream):
        shown, found = [], 0
        for packet in container.demux(stream):
            found += packet.size > 0  # the last packet is empty: it flushes the decoder
            if packet.pts is not None and not packet.is_discard:
                shown.append(packet.pts)
        announced, tick = stream.frames, _tick(stream)
    if not shown:
        raise DataError(f"The video {path} holds no frames; record or copy it again.")
    if found < announced:
        raise DataError(f"The video {path} is cut off after {found} of {announced} frames; copy it again.")
    return np.sort(shown) * float(tick)


@dataclass(frozen=True)
class VideoClip:
    """One episode's frames within a video file, which may hold many episodes.

    Attributes:
        path: the file.
        times: ``(T,)`` presentation time of each frame in the file.
        tolerance: seconds by which a frame may miss its time; at most half a frame interval.
    """

    path: Path
    times: NDArray[np.float64]
    tolerance: float

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode frames ``(len(indices), H, W, 3)`` in the order asked for; repeats are decoded once.

        Raises:
            DataError: the video is missing or damaged, or has fewer frames than the episode has rows.
            IndexError: an index is not within ``0..T - 1``.
        """
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self.times):
            raise IndexError(f"{self.path} is asked for frames outside 0 to {len(self.times) - 1}")
        wanted, slots = np.unique(indices, return_inverse=True)
        with _open_video(self.path) as (container, stream):
            self._check_end(stream)
            context = stream.codec_context
            frames = np.empty((len(indices), context.height, context.width, 3), dtype=np.uint8)
            for slot, frame in enumerate(self._decode(container, stream, wanted)):
                frames[slots == slot] = frame.to_ndarray(format="rgb24")
        return frames

    def _check_end(self, stream: VideoStream) -> None:
        """Refuse a video that ends before the episode does, whichever frames were asked for."""
        if stream.duration is None:  # some containers do not say; decoding then finds out
            return
        end = float(((stream.start_time or 0) + stream.duration) * _tick(stream))
        last = self.times[-1]
        # A last frame without a duration also makes a file seem too short; then its packets decide.
        if end < last + self.tolerance / 2 and frame_times(self.path)[-1] < last - self.tolerance:
            raise self._too_short(f"it ends at {end:.3f} s")

    def _decode(
        self, container: InputContainer, stream: VideoStream, wanted: NDArray[np.int64]
    ) -> Iterator[VideoFrame]:
        """The frames of rising indices, each found by its time."""
        tick = _tick(stream)
        frames: Iterator[tuple[int, VideoFrame]] = iter(())
        shown: tuple[int, VideoFrame] | None = None
        for time in self.times[wanted]:
            earliest = math.ceil((time - self.tolerance) / tick)
            if shown is None or _keyframe_between(stream, shown[0], earliest):
                shown, frames = None, _decode_from(container, stream, earliest)
            if shown is None or shown[0] < earliest:
                shown = next((later for later in frames if later[0] >= earliest), None)
            if shown is None or float(shown[0] * tick) > time + self.tolerance:
                raise self._too_short(f"it has none at {time:.3f} s")
            yield shown[1]

    def _too_short(self, what: str) -> DataError:
        return DataError(
            f"{self.path} has fewer frames than the episode's {len(self.times)} rows "
            f"({self.times[0]:.3f} to {self.times[-1]:.3f} s): {what}; record the episode again or drop it."
        )


def _tick(stream: VideoStream) -> Fraction:
    """The stream's unit of time, in seconds."""
    assert stream.time_base is not None, "only a stream that is being written has none"
    return stream.time_base


def _keyframe_between(stream: VideoStream, here: int, target: int) -> bool:
    """Whether seeking to ``target`` skips frames that decoding on from ``here`` would not."""
    entries = stream.index_entries
    keyframe = entries.search_timestamp(target)
    return keyframe >= 0 and entries[keyframe].timestamp > here


def _decode_from(container: InputContainer, stream: VideoStream, target: int) -> Iterator[tuple[int, VideoFrame]]:
    """Frames with their presentation times in ticks, in order, from a keyframe at or before ``target``.

    Containers index by decoding time, which B-frames let run ahead of presentation: a seek may land on a
    keyframe that is shown after ``target``. Then a seek further back is needed.
    """
    tick = _tick(stream)
    for seconds_back in (0, 1, 10, math.inf):
        goal = 0 if seconds_back == math.inf else max(0, target - round(seconds_back / tick))
        container.seek(goal, stream=stream)
        frames = ((frame.pts, frame) for frame in container.decode(stream) if frame.pts is not None)
        first = next(frames, None)
        if first is not None and (first[0] <= target or goal == 0):
            return chain([first], frames)
    return iter(())


class VideoJoiner:
    """An mp4 that grows by whole clips; packets are copied, nothing is re-encoded."""

    def __init__(self, path: Path, first_clip: Path) -> None:
        """Start the file with the coding parameters of its first clip (not yet appended)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w")
        with _open_video(first_clip) as (_, stream):
            self._stream = self._container.add_stream_from_template(stream, opaque=True)
            self._parameters = _coding_parameters(stream)
        self._last_dts: int | None = None
        self.size = 0

    def accepts(self, clip: Path) -> bool:
        """Whether the clip is coded like the others, so that one decoder reads through all of them."""
        with _open_video(clip) as (_, stream):
            return _coding_parameters(stream) == self._parameters

    def append(self, clip: Path, start: Fraction) -> int:
        """Copy a clip's packets so that its first frame is shown at ``start`` seconds; returns its frames."""
        count = 0
        with _open_video(clip) as (container, stream):
            offset: int | None = None
            for packet in container.demux(stream):
                if packet.pts is None or packet.dts is None:  # the flush packet at the end
                    continue
                if offset is None:  # a clip's first packet is a keyframe, shown first
                    offset = round(start / _tick(stream)) - packet.pts
                packet.pts += offset
                # A clip with a longer reordering delay than the one before would step back in decoding time.
                packet.dts += offset
                if self._last_dts is not None:
                    packet.dts = max(packet.dts, self._last_dts + 1)
                self._last_dts = packet.dts
                packet.stream = self._stream
                self._container.mux(packet)
                count += 1
        self.size += clip.stat().st_size
        return count

    def close(self) -> None:
        """Finish the file."""
        self._container.close()


def _coding_parameters(stream: VideoStream) -> tuple[object, ...]:
    context = stream.codec_context
    size = context.width, context.height
    return context.codec.canonical_name, size, context.pix_fmt, context.extradata, stream.time_base


@contextmanager
def _open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video for reading; whatever goes wrong with it becomes a DataError."""
    if not path.is_file():
        raise DataError(f"The video {path} is missing; restore it or drop the episode.")
    if path.stat().st_size == 0:
        raise DataError(f"The video {path} is an empty file; record or copy it again.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} has no video stream; give a video file.")
            yield container, container.streams.video[0]
    except av.FFmpegError as error:
        raise DataError(
            f"The video {path} cannot be read ({error.strerror}): it is damaged or cut off; copy it again."
        ) from error

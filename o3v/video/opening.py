"""Opening a video file: which containers are read, and the errors of files that are not."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

PathLike = str | os.PathLike[str]

# containers that are opened: no playlists, which name other files, no images, no text art
_CONTAINERS = "mov matroska avi mpegts mpegvideo flv ogg gif h264 hevc ivf m4v nut dv obu wtv mjpeg yuv4mpegpipe"
_REFUSED = ("mpeg", "asf", "mxf", "rm")  # times of B-frames in decoding order or missing, inexact seeking
CONTAINERS = (*_CONTAINERS.split(), *_REFUSED, "mp3", "wav", "flac")  # the last three too only for a clear error
CONVERT = "convert it first: ffmpeg -i IN OUT.mp4"
MAX_FRAME_PIXELS = 1 << 25  # 8192×4096: a file of a few kB can state frames that need gigabytes
_TEXT_ART_CODECS = frozenset({"ansi", "xbin", "idf"})  # FFmpeg draws any .txt as a video


class VideoError(ValueError):
    """A file that cannot be read correctly. `kind` is the stage that failed; the message names file and reason."""

    def __init__(self, path: PathLike, kind: Literal["open", "no-video-stream", "frame-decode"], reason: str) -> None:
        super().__init__(f"{os.fsdecode(path)}: {reason}")
        self.path, self.kind, self.reason = os.fsdecode(path), kind, reason

    def __reduce__(self) -> tuple[Any, ...]:  # for pickling across process pools
        return type(self), (self.path, self.kind, self.reason)


class MissingVideoError(VideoError, FileNotFoundError):
    """The file does not exist (kind "open"). Both a VideoError and a FileNotFoundError."""


@contextmanager
def open_stream(path: PathLike) -> Iterator[tuple[Any, Any]]:
    """Opens a PyAV container and its first video stream that is not cover art, single-threaded.

    Raises MissingVideoError; VideoError of kind "open" (a directory, empty, not a video) or "no-video-stream".
    """
    import av

    name = os.fsdecode(path)
    try:
        status = os.stat(name)
    except FileNotFoundError:
        raise MissingVideoError(name, "open", "no such file") from None
    except (OSError, ValueError) as error:
        raise VideoError(name, "open", f"cannot be opened ({error})") from None
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(name, "open", "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    if not status.st_size:
        raise VideoError(name, "open", "the file is empty")
    try:
        options = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
        limits = {"options": {"max_pixels": str(MAX_FRAME_PIXELS)}, "container_options": options}
        container = av.open(os.path.abspath(name), metadata_errors="ignore", **limits)
    except (av.FFmpegError, UnicodeError, MemoryError) as error:
        raise VideoError(name, "open", f"not a readable video ({error})") from None
    with container:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise VideoError(name, "no-video-stream", f"no video stream in this {container.format.name} file")
        codec = streams[0].codec_context
        if codec is None or codec.name in _TEXT_ART_CODECS:
            raise VideoError(name, "open", "not a video" if codec else "no decoder for its video stream")
        if container.format.name in _REFUSED:
            raise VideoError(name, "open", f"the times in this {container.format.name} file are not exact; {CONVERT}")
        if codec.width * codec.height > MAX_FRAME_PIXELS:
            size = f"{codec.width}×{codec.height}"
            raise VideoError(name, "open", f"its frames ({size}) are too large, more than {MAX_FRAME_PIXELS:,} pixels")
        codec.thread_count, codec.thread_type = 1, "SLICE"
        codec.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
        yield container, streams[0]

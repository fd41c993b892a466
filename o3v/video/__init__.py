"""Reads video and image files: frames with their true times."""

from o3v.video.frame_table import MissingVideoError, VideoError, VideoInfo, probe
from o3v.video.frames import (
    Backend,
    Frames,
    frames_at,
    nearest_frame,
    sample_frames,
    sample_with_key_frames,
    uniform_indices,
)
from o3v.video.image import crop, letterbox, read_image, resize
from o3v.video.writing import write_video

__all__ = [
    "Backend",
    "Frames",
    "MissingVideoError",
    "VideoError",
    "VideoInfo",
    "crop",
    "frames_at",
    "letterbox",
    "nearest_frame",
    "probe",
    "read_image",
    "resize",
    "sample_frames",
    "sample_with_key_frames",
    "uniform_indices",
    "write_video",
]

"""Reads video and image files: frames with their true times."""

from o3v.video.frame_cache import FrameCache, Request
from o3v.video.frame_table import VideoInfo, probe
from o3v.video.frames import Backend, Frames, frames_at, nearest_frame, sample_frames, uniform_indices
from o3v.video.image import crop, letterbox, read_image, resize
from o3v.video.opening import MissingVideoError, VideoError

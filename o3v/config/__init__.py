"""Settings of every part, and the named profiles."""

from o3v.config.presets import PROFILES, REPOSITORY, find_base, load_profile, single
from o3v.config.settings import (
    DataConfig,
    Engine,
    FrameConfig,
    GspoConfig,
    InferenceConfig,
    Optimizer,
    PretrainConfig,
    Profile,
    SftConfig,
    TrainableConfig,
)

"""o3v: video answers with evidence. A small, reproducible implementation of Open-o3 Video.

Import the module you need (`from o3v import rewards`); nothing heavy is loaded here.
"""

__version__ = "0.1.0"

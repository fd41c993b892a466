"""STGR rows: the schema that data, prompts, rewards and training use."""

from o3v.schema.fields import read_letter, read_span, without_section
from o3v.schema.rows import (
    COLLECTIONS,
    DroppedRow,
    Example,
    KeyFrame,
    Row,
    SchemaError,
    Task,
    read_examples,
    resolve_inside,
)

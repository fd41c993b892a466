"""A trained model answers questions: one answer, several with a vote, V-STAR's questions, evidence taken away."""

from o3v.inference.answering import (
    Question,
    answer,
    check_question,
    file_questions,
    format_rate,
    read_response,
    rewarded,
)
from o3v.inference.vstar_protocol import (
    VSTAR_ASKS,
    held_out_mam,
    read_vstar,
    spatial_answer,
    summary,
    true_boxes,
    vstar_questions,
)

__all__ = [
    "VSTAR_ASKS",
    "Question",
    "answer",
    "check_question",
    "file_questions",
    "format_rate",
    "held_out_mam",
    "read_response",
    "read_vstar",
    "rewarded",
    "spatial_answer",
    "summary",
    "true_boxes",
    "vstar_questions",
]

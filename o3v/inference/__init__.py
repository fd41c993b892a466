"""Answers questions with a trained model: one answer, a vote over several, V-STAR, answers without evidence."""

from o3v.inference.answering import (
    Question,
    align_rows,
    answer,
    check_question,
    file_questions,
    format_rate,
    heldout_rewards,
    readable,
    response_in_frames,
    score_examples,
)
from o3v.inference.vstar_protocol import (
    VSTAR_QUESTIONS,
    heldout_mam,
    item_boxes_px,
    item_times_s,
    read_vstar_answers,
    result_columns,
    spatial_answer,
    vstar_questions,
)

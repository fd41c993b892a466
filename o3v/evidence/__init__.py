"""The evidence grammar `<obj>name</obj><box>[…]</box>at<t>…</t>s`: its only parser and its only formatter."""

from o3v.evidence.formatting import (
    begin_answer,
    format_box,
    format_claim,
    format_object,
    format_response,
    format_span,
    format_time,
    map_boxes,
    map_times,
    strip_tags,
)
from o3v.evidence.parsing import (
    ANSWER_LINE,
    MAX_PROBLEMS,
    PROBLEM_KINDS,
    STRUCTURE_KINDS,
    TAGS,
    Claim,
    Problem,
    Response,
    answer_boxes,
    answer_choice,
    answer_span,
    open_think,
    parse_response,
    problem_shares,
)

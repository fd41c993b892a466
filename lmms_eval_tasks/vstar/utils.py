"""V-STaR for lmms-eval. Needs the standard library only, so that it can be taken upstream as it is.

Each item of V_STaR_test.json becomes five documents: what, and when and where of both chains, conditioned as in the
benchmark. Each gives a tuple (item, part, value), from which the metrics are aggregated: every item counts, a missing
or unreadable answer as 0. An answer to *what* is right if it contains the words of the true one; the benchmark's judge
is Qwen2.5-72B, so replace JUDGE to compare with its table. Environment: VSTAR_VIDEOS, the folder of the videos;
VSTAR_BOX_SPACE, how the model writes boxes: video (pixels of the video, default), pixels (of the resized frame,
Qwen2.5-VL, at most VSTAR_MAX_PIXELS) or thousandths (Qwen3-VL).
"""

import math
import os
import re
import unicodedata
from collections import defaultdict

Box = tuple[float, float, float, float]

PARTS = ("what", "when", "where", "when_2", "where_2")
LGM_CEILING = 1 - 1e-6  # −ln(1 − x) is infinite at 1
CLAIM = re.compile(  # the first box of an object, and its time
    r"<obj>([^<]+)</obj><box>\[" + ", ?".join([r"(-?[0-9]+(?:\.[0-9]+)?)"] * 4) + r"\]</box>(?:<box>[^<>]*</box>)*"
    r"at<t>([0-9]+(?:\.[0-9]+)?)</t>s"
)
SECONDS = 'Output JSON whose keys are seconds and whose values are boxes [x0, y0, x1, y1]: {{"3": [x0, y0, x1, y1]}}.'
PROMPTS = {
    "what": "Answer the question about the video in a few words: {question}",
    "when": "The video is {duration:.2f} seconds long. {temporal_question}\nOutput the start and the end in seconds.",
    "where": "{spatial_question}\nGive the box of the object at each of the seconds {seconds}. " + SECONDS,
    "when_2": "The video is {duration:.2f} seconds long. {temporal_question}\nThe boxes of the object are {boxes}, "
    "without their times. Output the start and the end in seconds.",
    "where_2": "{spatial_question_2}\nGive {count} boxes, each at another second at which the object is seen. "
    + SECONDS,
}


def vstar_process_docs(dataset):
    """Five documents for each item, with the columns `part` and `item`."""
    count = len(dataset)
    documents = dataset.select([item for item in range(count) for _ in PARTS])
    documents = documents.add_column("part", [part for _ in range(count) for part in PARTS])
    return documents.add_column("item", [item for item in range(count) for _ in PARTS])


def vstar_doc_to_visual(doc):
    """The path of the video."""
    folder = os.path.expanduser(os.getenv("VSTAR_VIDEOS", "."))
    name = doc["vid"] if os.path.splitext(doc["vid"])[1] else f"{doc['vid']}.mp4"
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} does not exist; set VSTAR_VIDEOS to the folder of V-STaR's videos")
    return [path]


def vstar_doc_to_text(doc, lmms_eval_specific_kwargs=None):
    """The prompt of a part. Chain 1's *where* gives the true interval, chain 2's *when* the true boxes."""
    words = lmms_eval_specific_kwargs or {}
    width, height = _space(doc)
    scale = (width / doc["width"], height / doc["height"]) * 2
    boxes = [[round(side * factor) for side, factor in zip(box, scale, strict=True)] for _, box in annotated_boxes(doc)]
    start, end = doc["timestamps"]
    text = PROMPTS[doc["part"]].format(
        duration=doc["frame_count"] / doc["fps"],
        seconds=list(range(math.ceil(start), math.floor(end) + 1)),
        boxes=boxes,
        count=len(boxes),
        **{name: doc[name] for name in ("question", "temporal_question", "spatial_question", "spatial_question_2")},
    )
    return f"{words.get('pre_prompt', '')}{text}{words.get('post_prompt', '')}"


def vstar_doc_to_target(doc):
    """What is right, as text."""
    part = doc["part"].split("_")[0]
    return {"what": doc["answer"], "when": str(doc["timestamps"]), "where": str(annotated_boxes(doc))}[part]


def vstar_process_results(doc, results):
    """The tuple (item, part, value) of a response, the same for each metric."""
    value = SCORES[doc["part"].split("_")[0]](doc, str(results[0]) if results else "")
    found = (doc["item"], doc["part"], value)
    return dict.fromkeys(("accuracy", "m_tiou", "m_viou", "mam", "mlgm"), found)


def score_what(doc, text):
    """1 if the answer is right, else 0."""
    answer = _answer(text)
    answer = (text.rstrip().rsplit("\n", 1)[-1] if answer is None else answer).strip()
    return float(bool(answer) and JUDGE(answer, doc["answer"]) >= 2)


def score_when(doc, text):
    """Temporal IoU of the only two times of the response."""
    answer = _answer(text)
    times = spoken_times(text if answer is None else answer)
    return span_iou(times, doc["timestamps"]) if len(times) == 2 else 0.0


def score_where(doc, text):
    """Mean box IoU over the annotated seconds: of the best box, 0 without one."""
    answer, (width, height) = _answer(text), _space(doc)
    scale = (doc["width"] / width, doc["height"] / height) * 2
    found = read_boxes(text if answer is None else answer) or claimed_boxes(doc, text)
    ious = []
    for second, truth in annotated_boxes(doc):
        boxes = [
            [round(side * factor, 2) for side, factor in zip(box, scale, strict=True)] for box in found.get(second, [])
        ]
        ious.append(max((box_iou(box, truth) for box in boxes), default=0.0))
    return math.fsum(ious) / len(ious) if ious else 0.0


def claimed_boxes(doc, text):
    """For each annotated second the box that the thinking claims nearest in time, in Open-o3 Video's grammar.

    Claims that name the object count; if none does, all. Chain 2: only between the first and the last claim.
    """
    start = text.find("<think>")
    end = text.find("</think>", start) if start >= 0 else -1
    claims = [
        (name.strip().lower(), [float(side) for side in sides], float(time))
        for name, *sides, time in CLAIM.findall(text[start:end] if end >= 0 else "")
        if float(sides[0]) < float(sides[2]) and float(sides[1]) < float(sides[3])
    ]
    claims = [claim for claim in claims if claim[0] == (doc.get("object") or "").strip().lower()] or claims
    if not claims:
        return {}
    times = [time for _, _, time in claims]
    first, last = (0, math.inf) if doc["part"] == "where" else (math.floor(min(times)), math.ceil(max(times)))
    seconds = [second for second, _ in annotated_boxes(doc) if first <= second <= last]
    return {s: [min(claims, key=lambda claim, s=s: abs(claim[2] - s))[1]] for s in seconds}


SCORES = {"what": score_what, "when": score_when, "where": score_where}


def vstar_means(tuples):
    """accuracy, (m_tiou, m_tiou_2) and (m_viou, m_viou_2) from the tuples of all items."""
    values = defaultdict(dict)
    for item, part, value in tuples:
        values[item][part] = value
    count = len(values)
    mean = {
        part: math.fsum(found.get(part, 0.0) for found in values.values()) / count if count else 0.0 for part in PARTS
    }
    return mean["what"], (mean["when"], mean["when_2"]), (mean["where"], mean["where_2"])


def vstar_accuracy(tuples):
    """Share of items whose answer is right."""
    return vstar_means(tuples)[0]


def vstar_m_tiou(tuples):
    """Mean temporal IoU of both chains."""
    return sum(vstar_means(tuples)[1]) / 2


def vstar_m_viou(tuples):
    """Mean box IoU of both chains."""
    return sum(vstar_means(tuples)[2]) / 2


def vstar_mam(tuples):
    """Mean over the chains of the arithmetic mean of accuracy, m_tiou and m_viou."""
    accuracy, tious, vious = vstar_means(tuples)
    return sum((accuracy + tiou + viou) / 3 for tiou, viou in zip(tious, vious, strict=True)) / 2


def vstar_mlgm(tuples):
    """Mean over the chains of −(ln(1 − accuracy) + ln(1 − m_tiou) + ln(1 − m_viou)) / 3."""
    accuracy, tious, vious = vstar_means(tuples)
    logs = [math.log(1 - min(x, LGM_CEILING)) for pair in zip(tious, vious, strict=True) for x in (accuracy, *pair)]
    return -sum(logs) / 6


def annotated_boxes(doc):
    """Seconds with their boxes, from either schema of the file. Arrow fills the keys of other rows with None."""
    found = []
    for entry in doc["bboxes"]:
        old = [(float(key.split("_")[0]), box) for key, box in entry.items() if isinstance(box, dict)]
        found += old or [(float(entry["timestamp"]), entry)]
    return [(second, [box[side] for side in ("xmin", "ymin", "xmax", "ymax")]) for second, box in found]


def _space(doc):
    """Width and height of the space in which the model writes boxes."""
    name, size = os.getenv("VSTAR_BOX_SPACE", "video"), (doc["width"], doc["height"])
    spaces = {"video": lambda: size, "thousandths": lambda: (1000, 1000), "pixels": lambda: _resized(*size)}
    if name not in spaces:
        raise ValueError(f"VSTAR_BOX_SPACE is {name!r}, none of {', '.join(spaces)}")
    return spaces[name]()


def _resized(width, height, factor=28):
    """The size after Qwen2.5-VL's processor: multiples of 28, at most VSTAR_MAX_PIXELS."""
    most = int(os.getenv("VSTAR_MAX_PIXELS", str(128 * factor * factor)))
    sides = [max(factor, round(side / factor) * factor) for side in (width, height)]
    if sides[0] * sides[1] > most:
        shrink = math.sqrt(width * height / most)
        sides = [max(factor, math.floor(side / shrink / factor) * factor) for side in (width, height)]
    return sides


def _answer(text):
    """The content of the first closed answer section, None without one."""
    start = text.find("<answer>")
    end = text.find("</answer>", start) if start >= 0 else -1
    return text[start + len("<answer>") : end] if end >= 0 else None


def span_iou(a, b):
    """Intersection over union of two spans, 0 for an inverted one."""
    overlap = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = max(0.0, a[1] - a[0]) + max(0.0, b[1] - b[0]) - overlap
    return overlap / union if union > 0 else 0.0


def box_iou(a, b):
    """Intersection over union of two boxes (x0, y0, x1, y1), 0 for an inverted one."""

    def area(x0, y0, x1, y1):
        return max(0.0, x1 - x0) * max(0.0, y1 - y0)

    overlap = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    union = area(*a) + area(*b) - overlap
    return overlap / union if union > 0 else 0.0


# Reading of answers: the same code as in o3v (text, vstar, vstar_times, vstar_answers); a test compares them.

# scripts without spaces between words, which are compared by character: Thai, Lao, Burmese, Khmer, Japanese, Chinese
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_MARKS = "".join(chr(code) for code in range(0x300, 0x3100) if unicodedata.category(chr(code)).startswith("M"))
_TOKEN = re.compile(
    rf"(?:(?![{_UNSPACED}])[^\W_][{_MARKS}]*|(?<=\d)[.:,](?=\d))+|(?:(?![{_MARKS}])[{_UNSPACED}])[{_MARKS}]*"
)


def tokens(text: str) -> list[str]:
    """Tokens in lower case and Unicode's composed form (NFC).

    A number is one token with its decimals, a clock time with its colons. Scripts without spaces are split into
    characters, each with its marks.

    >>> tokens("The café, at 10:30"), tokens("2.5 m"), tokens("红色的车")
    (['the', 'café', 'at', '10:30'], ['2.5', 'm'], ['红', '色', '的', '车'])
    """
    return _TOKEN.findall(unicodedata.normalize("NFC", text).casefold())


def judge_exact(predicted: str, truth: str) -> int:
    """Replaces the LLM judge (0–3): 3 if the prediction contains the words of the truth in a row, else 0.

    Case, punctuation and articles are ignored. It never gives 1 or 2.

    >>> judge_exact("It is the red car.", "a red car"), judge_exact("red cart", "red car")
    (3, 0)
    """
    predicted_words, true_words = _words(predicted), _words(truth)
    found = f" {' '.join(true_words)} " in f" {' '.join(predicted_words)} "
    return 3 if true_words and found else 0


def _words(text: str) -> list[str]:
    words = tokens(text)
    return [word for word in words if word not in ("a", "an", "the")] or words


JUDGE = judge_exact

UNITS_S = {"m": 60, "min": 60, "minute": 60, "分": 60, "分钟": 60, "h": 3600, "hr": 3600, "hour": 3600, "小时": 3600}

# A number or a clock time that is not part of a word or of a longer number, with its unit. What makes it no time of a
# video is in the group `wrong`: a minus that is no dash between two times, "frame" before it, "%" and such after it.
_TIME = re.compile(
    r"(?P<wrong>(?:^ ?|[(\[,] ?|\b(?:to|and|at|is|from|between) )[-−]|\bframes? )?"
    r"(?<![A-Za-z0-9_.:])(?P<number>[0-9]{1,15}(?::[0-9]{1,2}){0,2}(?:\.[0-9]{1,15})?)"
    r"(?: ?(?:(?P<wrong_unit>%|(?:percent|frames?|fps|ms)(?![A-Za-z0-9_]))"
    r"|(?P<unit>(?:s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)(?![A-Za-z0-9_])|秒|分钟?|小时))"
    r"|(?![A-Za-z0-9_:]|\.[0-9]))",
    re.IGNORECASE,
)


def spoken_times(text: str) -> list[float]:
    """The times of a text: 12.5, m:ss, h:mm:ss (with decimals) and units of seconds, minutes and hours.

    Returns [] if a number is a percentage, a frame or negative, or if only some of the numbers have a unit of minutes
    or hours.

    >>> spoken_times("1 minute 30 seconds to 2.5 minutes"), spoken_times("50% to 75%"), spoken_times("5 to 6 minutes")
    ([90.0, 150.0], [], [])
    """
    times, units, end = [], [], 0
    for match in _TIME.finditer(text):
        if match["wrong"] or match["wrong_unit"]:
            return []
        unit = (match["unit"] or "").lower().removesuffix("s")
        unit_s = 1 if ":" in match["number"] else UNITS_S.get(unit, 1)
        time_s = unit_s * clock_s(match["number"])
        if times and unit_s < units[-1] and text[end : match.start()].strip() in ("", "and"):  # 1 minute 30 seconds
            times[-1] += time_s
            units[-1] = unit_s
        else:
            times.append(time_s)
            units.append(unit_s if match["unit"] or ":" in match["number"] else 0)
        end = match.end()
    return [] if 0 in units and max(units) > 1 else times


def clock_s(clock: str) -> float:
    """Seconds of `ss`, `mm:ss` or `h:mm:ss`, the last part with decimals."""
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


# White space is collapsed first, so that each pattern reads at most one space and the scan takes linear time.
_NUMBER = r"[-+]?[0-9]{1,9}+(?:\.[0-9]{0,15}+)?"
_FOUR = r" ?, ?".join([rf"({_NUMBER})"] * 4)
_SECOND = r"[0-9]{1,6}+(?::[0-9]{1,2}+){0,2}(?:\.[0-9]{1,9}+)?"
_SIDES = r" ?, ?".join(rf"[\"']?{side}[\"']? ?: ?({_NUMBER})" for side in ("xmin", "ymin", "xmax", "ymax"))
_PART = re.compile(
    # "3": […   3s: {…   [3, […   — a second and the boxes after it
    rf"(?<![0-9.:])(?P<key>{_SECOND}) ?(?:s|secs?|seconds?)?[\"']? ?[:,] ?(?=[\[({{])(?P<object>{{)?"
    rf"|[\"']?\b(?:time|timestamp|second|sec|t)s?[\"']? ?: ?[\"']?(?P<named>{_SECOND})"  # "timestamp": 3
    rf"|[\[(] ?{_FOUR} ?,? ?[\])]|{_SIDES}|(?P<start>{{)",
    re.IGNORECASE,
)


def read_boxes(text: str) -> dict[float, list[Box]]:
    """The boxes of a response by second, in the coordinates of the text; boxes without a second are left out.

    >>> read_boxes('```json\\n{"3": [1, 2, 30, 40], "4s": [[1, 2, 5, 6], [0, 0, 1, 1]], "5": [1, 2')
    {3.0: [(1.0, 2.0, 30.0, 40.0)], 4.0: [(1.0, 2.0, 5.0, 6.0), (0.0, 0.0, 1.0, 1.0)]}
    >>> read_boxes("[{'bbox_2d': [1, 2, 3, 4], 'timestamp': 7}]")
    {7.0: [(1.0, 2.0, 3.0, 4.0)]}
    """
    found: dict[float, list[Box]] = {}
    second, waiting = None, []  # boxes of an object that names its second after them
    for match in _PART.finditer(re.sub(r"\s+", " ", text)):
        if match["start"]:
            second, waiting = None, []
        elif match["key"] or match["named"]:
            second = clock_s(match["key"] or match["named"])
            if match["named"] and waiting:
                found.setdefault(second, []).extend(waiting)
            waiting = []
        else:
            box = tuple(float(side) for side in match.groups() if side is not None)
            if second is None:
                waiting.append(box)
            else:
                found.setdefault(second, []).append(box)
    return found

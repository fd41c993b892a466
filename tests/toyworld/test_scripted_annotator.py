"""The scripted annotator's faults, and which of them the filters find, with a judge that knows the ground truth."""

from pathlib import Path

import pytest

from o3v.data import annotation, filter_report, filters
from o3v.evidence import parse_response
from o3v.geometry import box_iou
from o3v.toyworld import scripted_annotator
from o3v.toyworld.scene import make_scene


@pytest.fixture(scope="module")
def annotated():
    annotator = scripted_annotator.ScriptedAnnotator(seed=1, share=0.5, precise=True)
    items = list(scripted_annotator.items("sft", 0, 160))
    examples, unread = [], []
    for item in items:
        try:
            examples.append(annotation.to_example(item, annotator(item).text))
        except annotation.AnnotationError:
            unread.append(item.id)
    return {item.id: annotator.fault(item) for item in items}, unread, examples


def true_crops(example, wanted):
    """For each time and box the names of the objects that the scene shows there, in place of a crop's pixels."""
    split, seed, number = Path(example.video_path).stem.rsplit("-", 2)
    scene = make_scene(split, int(number), int(seed))
    crops = []
    for time_s, box in wanted:
        boxes = scene.boxes_at(min(round(time_s * scene.fps), scene.n_frames - 1))
        crops.append({name for name, true_box in boxes.items() if box_iou(box, true_box) > 0.5})
    return crops


def true_judge(crops, questions):
    return [any(name in q for name in crop) for crop, q in zip(crops, questions, strict=True)]


def test_with_a_perfect_judge_the_filters_find_every_fault(annotated):
    faults, unread, examples = annotated
    steps = filter_report.run_filters(
        examples, filters.pipeline_stages(true_crops, true_judge, filters.IS_THIS_QUESTION)
    )
    table, correct = scripted_annotator.count_faults(faults, unread, steps)
    assert set(table) == set(scripted_annotator.FAULTS)
    assert correct["kept"] == correct["rows"] > 60
    for fault, counts in table.items():
        assert counts["missed"] == 0, fault
        assert sum(n for stage, n in counts.items() if stage != "rows") == counts["rows"]
    assert table["malformed JSON"]["reading"] == table["malformed JSON"]["rows"]
    kept = steps[-1].result.kept
    assert filter_report.run_filters(kept)[-1].result.kept == kept  # a second pass drops nothing


def test_without_a_judge_the_filters_miss_faults_that_only_images_show(annotated):
    faults, unread, examples = annotated
    table, correct = scripted_annotator.count_faults(faults, unread, filter_report.run_filters(examples))
    for fault in ("shifted box", "wrong name", "evidence without mention"):
        assert table[fault]["missed"] == table[fault]["rows"] > 0
    for fault in ("oversized box", "wrong time", "mention without evidence", "truncated chain"):
        assert table[fault]["missed"] == 0
    assert correct["kept"] == correct["rows"]


def test_a_known_share_of_the_annotations_is_faulty():
    annotator = scripted_annotator.ScriptedAnnotator(seed=3, share=0.5)
    items = list(scripted_annotator.items("sft", 0, 120))
    faults = {item.id: annotator.fault(item) for item in items}
    assert 40 < sum(fault is not None for fault in faults.values()) < 80
    assert set(filter(None, faults.values())) == set(scripted_annotator.FAULTS)
    for item in items:
        text, true_text = annotator(item).text, scripted_annotator.ScriptedAnnotator(seed=3, share=0.0)(item).text
        assert (text == true_text) == (faults[item.id] is None) and annotator(item).text == text
        if faults[item.id] == scripted_annotator.MALFORMED:
            with pytest.raises(annotation.AnnotationError, match="not JSON"):
                annotation.parse_annotation(text)
            continue
        example = annotation.to_example(item, text)
        assert all(frame.time_s <= item.duration_s for frame in example.key_frames)
        problems = parse_response(f"<think>{example.reasoning_process}</think><answer>x</answer>").problems
        assert bool(problems) == (faults[item.id] == "truncated chain")


def test_items_come_from_both_annotated_sources_in_the_papers_proportion():
    items = list(scripted_annotator.items("sft", 0, 59))
    sources = [item.source for item in items]
    assert sources.count("synth_str_tg") == 39 and sources.count("synth_str_plm") == 20  # paper: 3.9k and 2k rows
    assert len({item.id for item in items}) == 59


def test_precision_of_an_exact_and_of_an_imprecise_annotator():
    items = list(scripted_annotator.items("sft", 0, 40))
    exact, loose = (
        scripted_annotator.precision(
            (annotation.to_example(i, scripted_annotator.ScriptedAnnotator(0, 0.0, precise)(i).text) for i in items),
            items,
        )
        for precise in (True, False)
    )
    assert exact and all(box == {"iou": 1.0, "late_s": 0.0} for box in exact)
    mean_iou = sum(box["iou"] for box in loose) / len(loose)
    assert 0.5 < mean_iou < 0.75  # four sides moved by up to 30%: between 1/1.6² = 0.39 and 1
    assert 0.05 < sum(box["late_s"] > 0 for box in loose) / len(loose) < 0.3

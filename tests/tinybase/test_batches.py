"""Training batches: each row asks about its own images, and no text contains an evidence tag."""

import numpy as np
import pytest

from o3v.evidence import TAGS
from o3v.tinybase.batches import ROW_FACTORS, draw_batch


def test_an_unknown_kind_is_an_error(clips):
    with pytest.raises(KeyError, match="movie"):
        draw_batch("movie", clips, 1, np.random.default_rng(0))


@pytest.mark.parametrize("kind", list(ROW_FACTORS))
def test_a_batch_has_the_images_of_its_rows(clips, kind):
    batch = draw_batch(kind, clips, 6, np.random.default_rng(0))
    assert len(batch.videos) == len(batch.qa_pairs) == 6
    assert batch.images.shape == (sum(max(1, len(times_s)) for times_s, _ in batch.videos), 84, 84, 3)
    assert all(row and all(qa.question and qa.answer for qa in row) for row in batch.qa_pairs)
    assert all(list(times_s) == sorted(times_s) for times_s, _ in batch.videos)


def test_no_text_contains_an_evidence_tag(clips):
    rng = np.random.default_rng(0)
    batches = [draw_batch(kind, clips, 8, rng) for kind in ROW_FACTORS]
    texts = [text for b in batches for row in b.qa_pairs for qa in row for text in (qa.question, qa.answer)]
    assert texts and not any(tag in text for text in texts for tag in TAGS)

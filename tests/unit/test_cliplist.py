"""Clips as columns: the same as one record per clip."""

import json
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import cliplist
from featurestore.cliplist import ClipList, factorize, repeated, texts
from featurestore.store.fingerprint import clips_sha256
from schemas import Clip

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
CLIPS = st.lists(
    st.builds(
        Clip,
        clip_id=TEXTS.filter(bool),
        path=TEXTS.filter(bool),
        fold=st.integers(0, 9),
        class_id=st.integers(0, 9),
        source=TEXTS,
    ),
    max_size=9,
)


@given(CLIPS)
def test_columns_give_back_the_clips_they_were_made_of(clips: list[Clip]) -> None:
    columns = ClipList.of(clips)
    assert list(columns) == clips
    assert [columns[row] for row in range(-len(clips), 0)] == clips
    assert list(columns[1:3]) == clips[1:3]
    assert columns == ClipList.of(clips)


@given(CLIPS, st.integers(1, 4))
def test_the_digest_in_batches_is_that_of_all_rows_in_one_json(
    clips: list[Clip], rows: int
) -> None:
    names = ["dog", "Straße"]
    listed = [[c.clip_id, c.path, c.fold, c.class_id, c.source] for c in clips]
    text = json.dumps([listed, names], separators=(",", ":"), ensure_ascii=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cliplist, "BATCH_ROWS", rows)
        assert clips_sha256(clips, names) == sha256(text.encode()).hexdigest()


@given(st.lists(st.sampled_from("abcdef")), st.integers(1, 4))
def test_repeated_names_every_later_row_and_the_first(values: list[str], rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cliplist, "BATCH_ROWS", rows)
        expected = {i: values.index(v) for i, v in enumerate(values) if values.index(v) != i}
        assert repeated(texts(values)) == expected
        codes, names = factorize(texts(values))
    assert [names[code] for code in codes] == values
    assert names == list(dict.fromkeys(values))


def test_texts_of_one_hash_are_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cliplist, "hash", lambda value: 1, raising=False)
    assert repeated(texts(["a", "b", "a", "c"])) == {2: 0}


def test_a_row_beyond_the_end_is_an_index_error() -> None:
    clips = ClipList.of([Clip(clip_id="a", path="a", fold=1, class_id=0)])
    with pytest.raises(IndexError):
        clips[1]
    assert np.array_equal(clips.fold, [1])

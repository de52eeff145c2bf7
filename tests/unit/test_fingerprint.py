from featurestore.store.fingerprint import clip_differences, clips_sha256, differences, fingerprint
from schemas import Clip, FeatureSpec

CLIPS = (
    Clip(clip_id="a", path="x/a.wav", fold=1, class_id=0),
    Clip(clip_id="b", path="x/b.wav", fold=2, class_id=1),
)
NAMES = ("dog", "rain")


def of(spec: FeatureSpec, clips: tuple[Clip, ...] = CLIPS, names: tuple[str, ...] = NAMES) -> str:
    return fingerprint(spec, clips_sha256(clips, names))


def test_the_fingerprint_changes_with_all_that_shapes_the_features() -> None:
    base = of(FeatureSpec())
    moved = (CLIPS[0].model_copy(update={"fold": 2}), CLIPS[1])
    others = [
        of(FeatureSpec(top_db=80)),
        of(FeatureSpec(), CLIPS[:1]),
        of(FeatureSpec(), CLIPS[::-1]),
        of(FeatureSpec(), moved),
        of(FeatureSpec(), names=("dog", "sea")),
        fingerprint(FeatureSpec(), clips_sha256(CLIPS, NAMES), version=99),
    ]
    assert len({base, *others}) == len(others) + 1
    assert base == of(FeatureSpec())


def test_the_fingerprint_of_the_papers_features_is_that_of_the_stores_built_so_far() -> None:
    """If this fails, every existing store would be refused: is that meant?"""
    known = "88f5c4328cd3e363147067e4a3950b41e8db23b3da053a0a0eba826ad737c2db"
    assert fingerprint(FeatureSpec(), "x", version=1) == known


def test_the_differing_fields_are_named() -> None:
    from pathlib import Path

    from featurestore.building.manifests import plan_manifest
    from featurestore.datasets.base import Dataset
    from schemas import DatasetCard

    card = DatasetCard(name="d", title="D", class_names=NAMES, licence="", citation="", url="")
    one = plan_manifest(Dataset(card, Path(), CLIPS), FeatureSpec())
    two = plan_manifest(Dataset(card, Path(), CLIPS[:1]), FeatureSpec(top_db=80, dtype="uint8"))
    told = " / ".join(differences(one, two))
    assert "top_db is 100.0, asked for 80.0" in told
    assert "dtype is float16, asked for uint8" in told
    assert "hop_length" not in told


def test_clips_that_are_gone_new_or_listed_otherwise_are_counted_and_the_first_are_named() -> None:
    names = [f"{letter}.wav" for letter in "abcdef"]
    old = [Clip(clip_id=name, path=name, fold=1, class_id=0) for name in names]
    new = [
        old[5].model_copy(update={"class_id": 1}),
        Clip(clip_id="z", path="z", fold=1, class_id=0),
    ]
    told = clip_differences(old, new)
    assert told.startswith(
        "6 clips in the store, 2 in the dataset: 5 gone (a.wav, b.wav, c.wav, …)"
    )
    assert "and 1 new (z)" in told
    assert told.endswith("1 listed differently (path, fold, class or source) (f.wav)")
    assert "order" in clip_differences(old, old[::-1])

#!/bin/sh
# The main job on made-up sounds, in ./demo: build, look, train three methods, report, predict.
# `make demo` runs it; docs/tutorial.md explains each step.
set -eu
mkdir -p demo
cp examples/demo/*.yaml demo
cd demo
rm -rf runs report
python - <<'END'
from pathlib import Path
from featurestore.datasets import make_synthetic

make_synthetic(Path("sounds"), clips_per_class=24)
END
featurestore build --dataset synthetic --root sounds --spec small.yaml --store demo.zarr
featurestore plot demo.zarr --classes 3 --out classes.png
featurestore plot demo.zarr --clip fold3/bird-004-seed0 --root sounds --out bird.png
for method in baseline mel resize; do
    trainer run --store demo.zarr --methods-file short.yaml --method "short-$method" --arch resnet18 \
        --init random --batch-size 16 --fold 1 --fold 2 --folds-at-once 2 --out "runs/$method"
done
trainer report runs/baseline runs/mel runs/resize --out report
trainer predict --run runs/mel sounds/audio/fold3/*-004-seed0.*
cat <<'END'

Pictures: demo/report/report.html, demo/classes.png, demo/bird.png
See and hear the clips, and what the networks get wrong (PATH="$PWD/.venv/bin:$PATH"):
    featurestore browse demo/demo.zarr --root demo/sounds --run demo/runs/mel --run demo/runs/resize
Next, with real sounds, here or in a directory of your own:
    featurestore build --dataset esc10
    trainer run --store esc10.zarr --method resize --arch resnet18 --epochs-scale 0.1
    trainer predict --run runs/esc10-resize-seed0 YOUR.wav
END

#!/bin/sh
# The main job on made-up sounds, in ./demo: build, train the three methods, report. `make demo` runs it.
set -eu
mkdir -p demo
cd demo
rm -rf runs report
featurestore build --dataset synthetic
for method in baseline mel resize; do
    trainer run --store synthetic.zarr --method "$method" --arch resnet18 --batch-size 16 \
        --epochs-scale 0.02 --init random --fold 1 --fold 2 --out "runs/$method"
done
trainer report runs/baseline runs/mel runs/resize --out report
echo "open demo/report/report.html"

"""Training against what the device can do, and the time the paper's tables take.

The trainer's own epoch against the same step in a bare loop over tensors that are ready on the
device; the ways to run a step next to the measured peak of matrix products; one fold against
several at once; whole folds of the protocol. It needs neither network nor audio: without a store
it makes one of random features.

    python -m benchmarks.train --device cpu --quick
    python -m benchmarks.train --device cuda --quick      # under 8 minutes
    python -m benchmarks.train --device cuda --store esc50.zarr
"""

"""Training compared with what the device can do, and the time that the paper's tables take.

The trainer's epoch is compared with the same step in a bare loop over tensors that are ready on
the device, execution modes with the measured peak of matrix products, and one fold with several at
once; whole folds of the protocol are timed. No network or audio is needed: without a store, one of
random features is made.

    python -m benchmarks.train --device cpu --quick
    python -m benchmarks.train --device cuda --checks     # does it train as it should?
    python -m benchmarks.train --device cuda --quick      # under 8 minutes
    python -m benchmarks.train --device cuda --store esc50.zarr
"""

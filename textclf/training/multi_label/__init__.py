"""Several labels per row in training: head, loss, weights, calibration, thresholds."""

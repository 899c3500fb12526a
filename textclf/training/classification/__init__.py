"""Text classification in training: head, loss, weights of labels, calibration."""

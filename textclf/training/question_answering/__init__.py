"""Question answering in training: head and loss, scores of an epoch, the bound for no answer, calibration."""

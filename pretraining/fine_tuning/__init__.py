"""Fine-tunes the encoders in PyTorch as textclf does in TensorFlow, several recipes at once, to review defaults on a GPU."""

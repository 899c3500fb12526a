"""What a training writes as it goes: the run folder and its states, for `--resume`."""

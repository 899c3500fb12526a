"""How the built-in encoder was made: a small MobileBERT distilled from a sentence encoder. Needs PyTorch; see README.md."""

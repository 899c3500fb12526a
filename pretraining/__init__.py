"""How the built-in encoders are made: MobileBERTs distilled from two sentence encoders. Needs PyTorch; see README.md."""

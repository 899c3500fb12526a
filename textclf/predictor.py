"""Where programs of before import Classifier from; see `textclf.classify.classifier`."""

from textclf.classify.classifier import Classifier, Prediction

__all__ = ["Classifier", "Prediction"]

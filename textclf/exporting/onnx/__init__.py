"""Trained models as ONNX files, each compared with the trained model on ONNX Runtime before it is written."""

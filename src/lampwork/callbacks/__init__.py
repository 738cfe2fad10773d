"""`watch` inside the training loops of Lightning, transformers and Accelerate.

Each file needs its framework, and nothing here imports one that is not asked for:
`from lampwork.callbacks.lightning import WatchCallback`, and so on.
"""

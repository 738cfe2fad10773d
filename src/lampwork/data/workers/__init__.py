"""Who loads: the process of the trainer itself (`inline`), or workers of its own (`processes`).

Both do the same job, see `contract`, and the same tests hold them to it.
"""

"""Shared memory in which workers hand over their batches.

Each worker has one `memfd`: a page of notices (`notices`) and slots of one batch each. The worker
takes a free slot (`slots`), stacks samples straight into it (`stacking`) and packs what else the
batch is made of behind them (`packing`). The trainer maps the slot once and builds tensors over it
without copying (`leases`); when the last of them dies the slot is free again.
"""

"""A stand-in for func-python where no package index is at hand.

It has the parts of func-python 0.8 that Relume leans on: `serve` of `new` or `handle`, the health
routes, what `send` is for a CloudEvent, 400 for what is no event and 500 for an error. The contract
suite in `test_server.py` runs over both.
"""

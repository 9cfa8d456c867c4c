"""Batches of records as columns: compiled kernels, generated from each event's schema, read and write them.

``decoding`` and ``encoding`` load the compiler (numba, half a second); ``plan``, ``columns``, ``building`` and ``interning``
numpy only. Processes that handle single records (strategies, the command line) load none of it.
"""

"""Batches of records as columns: compiled kernels, generated from each event's schema, read and write them.

Importing anything here but :mod:`skeet.schemas.columns.compiled` and ``kernel`` loads numpy and no compiler; numba is loaded
when the first kernel is made. Processes that handle single records (strategies, the command line) need none of it.
"""

"""Batch transport for Faust: one event is a whole chunk of records of one partition, as columns over the fetched bytes.

A normal Faust application, worker, group membership and commit; see :func:`skeet.streams.batches.app.batch_app`. Imports
numba: only what handles the market's streams may import it.
"""

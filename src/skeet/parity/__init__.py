"""``skeet verify --deep``: the log against what our own code makes of it, in another process and at another time.

F: the fold from zero equals every StateMarked, and equals snapshot + tail. D: ``decide``, run again on the recorded causes
and contexts, gives the recorded events byte for byte. S: agents, run again along their journals, give the recorded outputs.
B: bars, made again from the trades that they name, equal the published ones.
The other checks of ``skeet verify`` judge without our code; these need it, so they live apart.
"""

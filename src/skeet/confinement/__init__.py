"""What a process gives up, for good, before it runs code that nobody here wrote.

Knows nothing of strategies: :mod:`skeet.confinement.process` takes a plan of paths, ports and limits and applies it with
what the system offers (users, resource limits, Landlock, seccomp). Everything here works without privileges but the
change of user.
"""

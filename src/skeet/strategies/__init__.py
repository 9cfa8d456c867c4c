"""The strategies that ship, and a test bench for writing your own (:mod:`skeet.strategies.testing`)."""
